//! Who the daemon is to the project: the bearer of a key, or a signed-in user whose token is renewed in time.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::StatusCode;
use rowcall_core::{Clock, ErrorClass, SourceError};
use rowcall_realtime::client::{TokenError, TokenSource};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{
    error::RestError,
    http::{Call, Transport},
};

/// Tokens are renewed this long before they expire: Realtime looks for a new one at every heartbeat, and a request must not
/// arrive with one that expires on the way.
const RENEW_BEFORE: Duration = Duration::from_mins(2);
/// A renewed token is kept for at least this long, whatever its expiry says: a project with a wrong clock must not be asked
/// for a token with every request.
const KEEP_AT_LEAST: Duration = Duration::from_secs(30);

/// The tokens of a signed-in user.
#[derive(Clone)]
pub struct UserTokens {
    /// The JWT that requests carry.
    pub access: SecretString,
    /// What buys the next one; without it the session ends with the token.
    pub refresh: Option<SecretString>,
}

impl fmt::Debug for UserTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserTokens")
    }
}

/// Told of renewed tokens, to keep them where secrets are kept. A refresh token works once: who does not keep the new one is
/// signed out at the next start.
pub trait TokenKeeper: Send + Sync {
    /// New tokens of the user.
    fn keep(&self, tokens: &UserTokens);
}

struct Signed {
    tokens: UserTokens,
    expires_at: Option<Timestamp>,
    /// When the tokens came to be ours.
    since: Timestamp,
    /// The project said that it does not take the token.
    rejected: bool,
}

struct Inner {
    transport: Transport,
    clock: Arc<dyn Clock>,
    keeper: Option<Arc<dyn TokenKeeper>>,
    signed: Mutex<Option<Signed>>,
    /// One renewal at a time: a refresh token works once.
    renewing: tokio::sync::Mutex<()>,
}

/// Who the daemon is; clones share the session.
#[derive(Clone)]
pub(crate) struct Session(Arc<Inner>);

impl Session {
    pub(crate) fn new(
        transport: Transport,
        clock: Arc<dyn Clock>,
        tokens: Option<UserTokens>,
        keeper: Option<Arc<dyn TokenKeeper>>,
    ) -> Self {
        let session = Self(Arc::new(Inner {
            transport,
            clock,
            keeper,
            signed: Mutex::new(None),
            renewing: tokio::sync::Mutex::new(()),
        }));
        session.set(tokens);
        session
    }

    /// Signs in with other tokens, or out.
    pub(crate) fn set(&self, tokens: Option<UserTokens>) {
        *self.0.signed.lock() = tokens.map(|tokens| Signed {
            expires_at: expiry(tokens.access.expose_secret()),
            tokens,
            since: self.0.clock.now(),
            rejected: false,
        });
    }

    /// Whether there is a user.
    pub(crate) fn is_signed_in(&self) -> bool {
        self.0.signed.lock().is_some()
    }

    /// The user's token, renewed when it is time; nothing when there is only the key.
    pub(crate) async fn token(&self) -> Result<Option<SecretString>, RestError> {
        match self.current() {
            Some((token, false)) => Ok(Some(token)),
            Some((stale, true)) => self.renew(&stale).await.map(Some),
            None => Ok(None),
        }
    }

    /// A token instead of one that the project did not take; nothing when there is no other.
    pub(crate) async fn replace(
        &self,
        refused: &SecretString,
    ) -> Result<Option<SecretString>, RestError> {
        let has_refresh = {
            let mut signed = self.0.signed.lock();
            let Some(signed) = signed.as_mut() else {
                return Ok(None);
            };
            if signed.tokens.access.expose_secret() == refused.expose_secret() {
                signed.rejected = true;
            }
            signed.tokens.refresh.is_some()
        };
        if has_refresh {
            self.renew(refused).await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// The token and whether it should be renewed.
    fn current(&self) -> Option<(SecretString, bool)> {
        let signed = self.0.signed.lock();
        let signed = signed.as_ref()?;
        let now = self.0.clock.now();
        let fresh = signed
            .since
            .checked_add(KEEP_AT_LEAST)
            .is_ok_and(|until| now < until);
        let expires = signed
            .expires_at
            .and_then(|at| at.checked_sub(RENEW_BEFORE).ok())
            .is_some_and(|at| at <= now);
        let due = signed.rejected || (expires && !fresh);
        let renewable = signed.tokens.refresh.is_some();
        Some((signed.tokens.access.clone(), due && renewable))
    }

    async fn renew(&self, stale: &SecretString) -> Result<SecretString, RestError> {
        let _one_at_a_time = self.0.renewing.lock().await;
        let refresh = {
            let signed = self.0.signed.lock();
            let Some(signed) = signed.as_ref() else {
                return Err(signed_out("the user was signed out"));
            };
            let renewed = signed.tokens.access.expose_secret() != stale.expose_secret();
            match &signed.tokens.refresh {
                _ if renewed => return Ok(signed.tokens.access.clone()),
                Some(refresh) => refresh.clone(),
                None => return Err(signed_out("the session has expired")),
            }
        };
        let tokens = self.buy(&refresh).await?;
        if let Some(keeper) = &self.0.keeper {
            keeper.keep(&tokens);
        }
        let access = tokens.access.clone();
        self.set(Some(tokens));
        Ok(access)
    }

    async fn buy(&self, refresh: &SecretString) -> Result<UserTokens, RestError> {
        let call = Call::post(&["auth", "v1", "token"])
            .query("grant_type", "refresh_token")
            .json(&json!({"refresh_token": refresh.expose_secret()}));
        let answer = self.0.transport.send(&call, None).await;
        let bought: Bought = match answer {
            Ok(answer) => answer.read()?,
            // The token was used up or withdrawn: asking again cannot help.
            Err(RestError::Refused {
                status, message, ..
            }) if status.is_client_error() => {
                return Err(signed_out(&message));
            }
            Err(error) => return Err(error),
        };
        Ok(bought.into())
    }
}

/// What the project answers when it gives tokens.
#[derive(Deserialize)]
struct Bought {
    access_token: SecretString,
    refresh_token: Option<SecretString>,
}

impl From<Bought> for UserTokens {
    fn from(bought: Bought) -> Self {
        Self {
            access: bought.access_token,
            refresh: bought.refresh_token,
        }
    }
}

/// Signs a user in to a project with a password.
///
/// # Errors
/// When the URL is of no use, the project cannot be reached, or it does not know the user with this password.
pub async fn sign_in(
    url: &str,
    key: &SecretString,
    email: &str,
    password: &SecretString,
) -> Result<UserTokens, SourceError> {
    const WHAT: &str = "sign the user in";
    let base = url::Url::parse(url).map_err(|error| {
        let message = format!("the project URL {url:?} cannot be used: {error}");
        SourceError::new(ErrorClass::Permanent, message)
    })?;
    let transport = Transport::new(base, key.clone(), super::DEFAULT_REQUEST_TIMEOUT)
        .map_err(|error| error.during(WHAT))?;
    let call = Call::post(&["auth", "v1", "token"])
        .query("grant_type", "password")
        .json(&json!({"email": email, "password": password.expose_secret()}));
    let answer = transport.send(&call, None).await;
    match answer.and_then(|answer| answer.read::<Bought>()) {
        Ok(bought) => Ok(bought.into()),
        Err(RestError::Refused {
            status, message, ..
        }) if status == StatusCode::BAD_REQUEST => {
            let message = format!("the project does not sign {email} in: {message}");
            Err(SourceError::new(ErrorClass::Unauthorized, message))
        }
        Err(error) => Err(error.during(WHAT)),
    }
}

fn signed_out(why: &str) -> RestError {
    RestError::SignedOut(format!("the user's session is over ({why}); sign in again"))
}

/// The `exp` of a JWT. It is not verified: it only tells when to renew.
fn expiry(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let payload = token.split('.').nth(1)?;
    let json = BASE64_URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .ok()?;
    let claims: Claims = serde_json::from_slice(&json).ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, and no such instant is refused below"
    )]
    let seconds = claims.exp as i64;
    Timestamp::from_second(seconds).ok()
}

#[async_trait]
impl TokenSource for Session {
    async fn token(&self) -> Result<Option<SecretString>, TokenError> {
        let token = Self::token(self).await;
        token.map_err(|error| TokenError(error.to_string()))
    }

    fn rejected(&self) {
        if let Some(signed) = self.0.signed.lock().as_mut() {
            signed.rejected = true;
        }
    }
}
