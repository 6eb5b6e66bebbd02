//! The keys of one stack: the secret that signs tokens, and the API keys clients send.
//!
//! Generated once per data directory and kept in `<data-dir>/secret/keys.json`, readable by the owner only.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use constant_time_eq::constant_time_eq;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::claims::{Claims, TokenError};

/// Where the keys are kept, under the data directory.
const FILE: &str = "secret/keys.json";
/// How long the generated `anon` and `service_role` tokens live: ten years.
const API_TOKEN_SECONDS: i64 = 10 * 365 * 24 * 60 * 60;
/// A token longer than this is not looked at. Header limits are far below it.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The keys could not be read, made or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file or its folder cannot be read or written.
    #[error(
        "the keys in {path} cannot be read or written: {source}. Check that the folder belongs to you and has room"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what we wrote.
    #[error(
        "the keys in {path} are damaged: {source}. Restore the file, or delete it to make new keys (old tokens end)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl KeysError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        "stack-keys"
    }
}

/// What an `apikey` turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiKey<'a> {
    /// `sb_publishable_…`: acts as the anon token.
    Publishable,
    /// `sb_secret_…`: acts as the `service_role` token.
    Secret,
    /// Any other text: a token to verify.
    Token(&'a str),
}

#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    jwt_secret: String,
    anon_key: String,
    service_role_key: String,
    publishable_key: String,
    secret_key: String,
}

/// The signing secret and API keys of one stack.
#[derive(Clone)]
pub struct Keys {
    stored: Stored,
    signing: EncodingKey,
    verifying: DecodingKey,
    /// The claims of our own two tokens, which most requests carry: their signatures need no second look.
    known: [Option<Arc<Map<String, Value>>>; 2],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// The keys of the data directory, made on first use.
    ///
    /// Two processes starting at once agree: the first to put the file there wins.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is damaged.
    pub fn load_or_create(data_dir: &Path, now: Timestamp) -> Result<Self, KeysError> {
        let path = data_dir.join(FILE);
        if let Some(keys) = Self::read(&path)? {
            return Ok(keys);
        }
        let keys = Self::generate(now);
        if keys.write(&path)? {
            return Ok(keys);
        }
        Self::read(&path)?.ok_or_else(|| KeysError::Io {
            path,
            source: std::io::Error::from(std::io::ErrorKind::NotFound),
        })
    }

    /// The public, well-known keys that `supabase start` uses. For local development only: everybody has them.
    pub fn supabase_cli() -> Self {
        Self::from_stored(Stored {
            jwt_secret: "super-secret-jwt-token-with-at-least-32-characters-long".to_owned(),
            anon_key: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6ImFub24iLCJleHAiOjE5ODM4MTI5OTZ9.CRXP1A7WOeoJeXxjNni43kdQwgnWNReilDMblYTn_I0".to_owned(),
            service_role_key: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6InNlcnZpY2Vfcm9sZSIsImV4cCI6MTk4MzgxMjk5Nn0.EGIM96RAZx35lJzdJsyH-qQwv8Hdp7fsn3W0YpN81IU".to_owned(),
            publishable_key: "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH".to_owned(),
            secret_key: "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz".to_owned(),
        })
    }

    /// New random keys; the API tokens are valid from `now` for ten years.
    pub fn generate(now: Timestamp) -> Self {
        let jwt_secret = URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 48]>());
        let signing = EncodingKey::from_secret(jwt_secret.as_bytes());
        let token = |role: &str| {
            let issued = now.as_second();
            sign_claims(
                &signing,
                &json!({"iss": "rowcall", "role": role, "iat": issued, "exp": issued + API_TOKEN_SECONDS}),
            )
        };
        Self::from_stored(Stored {
            anon_key: token("anon"),
            service_role_key: token("service_role"),
            publishable_key: opaque_key("sb_publishable_"),
            secret_key: opaque_key("sb_secret_"),
            jwt_secret,
        })
    }

    fn from_stored(stored: Stored) -> Self {
        let verifying = DecodingKey::from_secret(stored.jwt_secret.as_bytes());
        let known = [&stored.anon_key, &stored.service_role_key]
            .map(|token| decode(&verifying, token).ok().map(Arc::new));
        Self {
            signing: EncodingKey::from_secret(stored.jwt_secret.as_bytes()),
            verifying,
            known,
            stored,
        }
    }

    fn read(path: &Path) -> Result<Option<Self>, KeysError> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(|stored| Some(Self::from_stored(stored)))
                .map_err(|source| KeysError::Damaged {
                    path: path.to_owned(),
                    source,
                }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeysError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Puts the file in place, complete and closed to others; false when another process was first.
    fn write(&self, path: &Path) -> Result<bool, KeysError> {
        let failed = |source| KeysError::Io {
            path: path.to_owned(),
            source,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        make_private_folder(folder).map_err(failed)?;
        // A temporary file is created with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        serde_json::to_writer_pretty(&mut file, &self.stored)
            .map_err(|error| failed(error.into()))?;
        file.write_all(b"\n").map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(true),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(failed(error.error)),
        }
    }

    /// The secret that signs tokens. Show it only where its owner asks for it.
    pub fn jwt_secret(&self) -> &str {
        &self.stored.jwt_secret
    }

    /// The long-lived token of role `anon`: public.
    pub fn anon_key(&self) -> &str {
        &self.stored.anon_key
    }

    /// The long-lived token of role `service_role`: passes row level security, secret.
    pub fn service_role_key(&self) -> &str {
        &self.stored.service_role_key
    }

    /// `sb_publishable_…`, the new form of the anon key: public.
    pub fn publishable_key(&self) -> &str {
        &self.stored.publishable_key
    }

    /// `sb_secret_…`, the new form of the service key: secret.
    pub fn secret_key(&self) -> &str {
        &self.stored.secret_key
    }

    /// What kind of key a client sent as `apikey`. Comparison takes the same time wherever the texts differ.
    pub fn classify<'a>(&self, apikey: &'a str) -> ApiKey<'a> {
        let same = |key: &str| constant_time_eq(key.as_bytes(), apikey.as_bytes());
        if same(&self.stored.secret_key) {
            ApiKey::Secret
        } else if same(&self.stored.publishable_key) {
            ApiKey::Publishable
        } else {
            ApiKey::Token(apikey)
        }
    }

    /// The token of a request after the gateway's key mapping: what REST, Auth and Realtime may verify.
    ///
    /// The client's own `Authorization` counts unless it carries an `sb_` key, which is no token; then the `apikey`
    /// decides. `None` is an anonymous request. `Some("")` is a `Bearer` with nothing behind it.
    pub fn bearer<'a>(
        &'a self,
        authorization: Option<&'a str>,
        apikey: Option<&'a str>,
    ) -> Option<&'a str> {
        if let Some(token) = authorization.map(bearer_token)
            && !token.is_some_and(|token| token.starts_with("sb_"))
        {
            return token;
        }
        match self.classify(apikey?) {
            ApiKey::Secret => Some(&self.stored.service_role_key),
            ApiKey::Publishable => Some(&self.stored.anon_key),
            // As behind the official gateway: a bare token is a header without a scheme, hence no token at all.
            ApiKey::Token(_) => None,
        }
    }

    /// Swaps an `sb_` key for the token it stands for, as the gateway does in the WebSocket's `apikey` parameter.
    pub fn token_for_api_key<'a>(&'a self, apikey: &'a str) -> &'a str {
        match self.classify(apikey) {
            ApiKey::Secret => &self.stored.service_role_key,
            ApiKey::Publishable => &self.stored.anon_key,
            ApiKey::Token(token) => token,
        }
    }

    /// Whether `apikey` opens the gateway: one of the four keys, or any token signed with the secret and not expired.
    pub fn accepts_api_key(&self, apikey: &str, now: Timestamp) -> bool {
        match self.classify(apikey) {
            ApiKey::Secret | ApiKey::Publishable => true,
            ApiKey::Token(token) => self.verify(token, now).is_ok(),
        }
    }

    /// Checks signature and times of a token at `now`.
    ///
    /// The algorithm is HS256 whatever the header says, so neither `none` nor a public key trick gets through.
    ///
    /// # Errors
    /// Why the token does not count.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let ours = [&self.stored.anon_key, &self.stored.service_role_key];
        for (key, claims) in ours.into_iter().zip(&self.known) {
            if let Some(claims) = claims
                && constant_time_eq(key.as_bytes(), token.as_bytes())
            {
                return Claims::checked(Arc::clone(claims), now);
            }
        }
        Claims::checked(Arc::new(decode(&self.verifying, token)?), now)
    }

    /// Signs `claims` as a token of this stack.
    pub fn sign(&self, claims: &Value) -> String {
        sign_claims(&self.signing, claims)
    }
}

/// The claims of a token whose signature is right; their times are not looked at.
fn decode(verifying: &DecodingKey, token: &str) -> Result<Map<String, Value>, TokenError> {
    if token.is_empty() {
        return Err(TokenError::Empty);
    }
    let parts = token.split('.').count();
    if parts != 3 {
        return Err(TokenError::Parts(parts));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    // Times are checked against our clock; the library would use the system's.
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, verifying, &validation)
        .map_err(|error| refused(&error, token))?;
    Ok(decoded.claims)
}

/// The token behind the scheme `Bearer` in any case; `None` for every other header.
fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = match header.split_once(' ') {
        Some((scheme, token)) => (scheme, token.trim()),
        None => (header, ""),
    };
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Sorts the library's reasons into ours. An algorithm we do not take is only told apart from its header.
fn refused(error: &jsonwebtoken::errors::Error, token: &str) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => TokenError::Algorithm,
        _ if names_foreign_algorithm(token) => TokenError::Algorithm,
        _ => TokenError::Malformed,
    }
}

/// Whether the header is readable and names another algorithm; `none` is not even a name to the library.
fn names_foreign_algorithm(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    URL_SAFE_NO_PAD
        .decode(header)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .and_then(|header| {
            header
                .get("alg")
                .and_then(Value::as_str)
                .map(|alg| alg != "HS256")
        })
        .unwrap_or(false)
}

fn sign_claims(key: &EncodingKey, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, key)
        .expect("HS256 signs any JSON object")
}

/// `prefix` + 22 characters of randomness + `_` + 8 characters that tell a mistyped key.
fn opaque_key(prefix: &str) -> String {
    let random = URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 16]>());
    let sum = URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{prefix}{random}")));
    format!("{prefix}{random}_{}", &sum[..8])
}

#[cfg(unix)]
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

#[cfg(not(unix))]
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

#[cfg(test)]
mod tests;
