//! The log-in through a browser: a person proves who they are there, and types the code they are shown here.
//!
//! The token comes encrypted for a key that was made for this attempt, so neither the code nor the answer is enough to read it.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    rand::SystemRandom,
};
use secrecy::SecretString;
use serde::Deserialize;
use uuid::Uuid;

use super::{ManagementError, base, bounded, client, endpoint};

/// The length of the code that a person is shown.
const CODE_CHARS: usize = 8;

/// Why a log-in did not work.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No account is there to use.
    #[error("nobody is logged in to Supabase")]
    Nobody,
    /// The code is no code.
    #[error("the code has {CODE_CHARS} letters and digits")]
    NoCode,
    /// The code is wrong, or it is not known yet.
    #[error("Supabase does not know this code")]
    WrongCode,
    /// What came is no token for us.
    #[error("Supabase's answer cannot be used: {0}")]
    Unusable(&'static str),
    /// There was no answer.
    #[error(transparent)]
    Api(#[from] ManagementError),
}

impl LoginError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Nobody => "login-needed",
            Self::NoCode | Self::WrongCode => "login-code",
            Self::Unusable(_) => "login-answer",
            Self::Api(error) => error.code(),
        }
    }
}

/// One attempt to log in.
pub struct LoginAttempt {
    private: Option<EphemeralPrivateKey>,
    session: Uuid,
    api: String,
    page: String,
}

impl std::fmt::Debug for LoginAttempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginAttempt")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Sealed {
    access_token: String,
    public_key: String,
    nonce: String,
}

impl LoginAttempt {
    /// Begins an attempt. `name` is what the account's list of tokens will show.
    pub fn begin(
        api: &str,
        dashboard: &str,
        name: &str,
        session: Uuid,
    ) -> Result<Self, LoginError> {
        let random = SystemRandom::new();
        let private = EphemeralPrivateKey::generate(&ECDH_P256, &random)
            .map_err(|_| LoginError::Unusable("no key could be made"))?;
        let public = private
            .compute_public_key()
            .map_err(|_| LoginError::Unusable("no key could be made"))?;
        let mut page = endpoint(&base(dashboard)?, &["cli", "login"]);
        page.query_pairs_mut()
            .append_pair("session_id", &session.to_string())
            .append_pair("token_name", name)
            .append_pair("public_key", &hex::encode(public.as_ref()));
        Ok(Self {
            private: Some(private),
            session,
            api: api.to_owned(),
            page: page.into(),
        })
    }

    /// The page where the person logs in.
    pub fn page(&self) -> &str {
        &self.page
    }

    /// Fetches the token with the code that the person was shown. After [`LoginError::WrongCode`] another one may be tried.
    pub async fn finish(&mut self, code: &str) -> Result<SecretString, LoginError> {
        let code = code.trim();
        if code.len() != CODE_CHARS || !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(LoginError::NoCode);
        }
        let session = self.session.to_string();
        let path = ["platform", "cli", "login", &session];
        let mut url = endpoint(&base(&self.api)?, &path);
        url.query_pairs_mut().append_pair("device_code", code);
        let (status, body) = bounded(client()?.get(url)).await?;
        if status.is_server_error() {
            return Err(ManagementError::Unexpected {
                status: status.as_u16(),
                message: super::message(&body),
            }
            .into());
        }
        if !status.is_success() {
            return Err(LoginError::WrongCode);
        }
        let sealed: Sealed = serde_json::from_slice(&body)
            .map_err(|_| LoginError::Unusable("it is not what the documentation says"))?;
        let token = self.open(&sealed)?;
        if !is_token(&token) {
            return Err(LoginError::Unusable("it holds no access token"));
        }
        Ok(token.into())
    }

    fn open(&mut self, sealed: &Sealed) -> Result<String, LoginError> {
        let private = self.private.take().ok_or(LoginError::Unusable(
            "the attempt is over; begin another one",
        ))?;
        let bytes = |text: &str| {
            hex::decode(text).map_err(|_| LoginError::Unusable("it is not hexadecimal"))
        };
        let peer = UnparsedPublicKey::new(&ECDH_P256, bytes(&sealed.public_key)?);
        let nonce = Nonce::try_assume_unique_for_key(&bytes(&sealed.nonce)?)
            .map_err(|_| LoginError::Unusable("its nonce has another length"))?;
        let mut token = bytes(&sealed.access_token)?;
        // The shared secret is used as it is: so it is laid down.
        let key = agree_ephemeral(private, &peer, |secret| {
            UnboundKey::new(&AES_256_GCM, secret)
        })
        .map_err(|_| LoginError::Unusable("its key is no point of the curve"))?
        .map_err(|_| LoginError::Unusable("its key has another length"))?;
        let opened = LessSafeKey::new(key)
            .open_in_place(nonce, Aad::empty(), &mut token)
            .map_err(|_| LoginError::Unusable("it was not made for this attempt"))?;
        String::from_utf8(opened.to_vec()).map_err(|_| LoginError::Unusable("it holds no text"))
    }
}

/// Whether a text has the form of an access token.
pub fn is_token(text: &str) -> bool {
    let rest = text.strip_prefix("sbp_");
    let rest = rest.map(|rest| rest.strip_prefix("oauth_").unwrap_or(rest));
    rest.is_some_and(|rest| {
        rest.len() == 40
            && rest
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_known_by_their_form() {
        let digits = "0123456789abcdef0123456789abcdef01234567";
        assert!(is_token(&format!("sbp_{digits}")));
        assert!(is_token(&format!("sbp_oauth_{digits}")));
        for wrong in [
            "",
            "sbp_",
            &format!("sbp_{}", digits.to_uppercase()),
            digits,
        ] {
            assert!(!is_token(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_page_carries_an_uncompressed_point() {
        let attempt = LoginAttempt::begin(
            "https://api.supabase.com",
            "https://supabase.com/dashboard",
            "cli_a b@host_1",
            Uuid::nil(),
        )
        .unwrap();
        let page = attempt.page();
        assert!(
            page.starts_with("https://supabase.com/dashboard/cli/login?session_id=00000000-"),
            "{page}"
        );
        assert!(
            page.contains("&token_name=cli_a+b%40host_1&public_key=04"),
            "{page}"
        );
        let key = page.rsplit('=').next().unwrap();
        assert_eq!(key.len(), 130);
    }
}
