//! Where the client connects and how.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    dial::{Dial, Tcp},
    inbox::InboxLimits,
};
use crate::{
    Version,
    channel::{Jitter, Timing},
};

/// Why a configuration is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a URL.
    #[error("the Realtime URL is not valid: {0}; it looks like https://<project>.supabase.co")]
    Url(#[from] url::ParseError),
    /// Another scheme.
    #[error("the Realtime URL begins with {0}:, but only http, https, ws and wss are possible")]
    Scheme(String),
    /// No host.
    #[error("the Realtime URL names no host")]
    Host,
}

/// Why there is no token at the moment; the text is for people and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(pub String);

/// Where the token of the channels comes from: a session that is refreshed now and then. It is asked before every connection
/// and at every heartbeat, so it should answer from memory and refresh well before the token expires.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// The current token. `None` means that the key of the socket counts for the channels, too.
    async fn token(&self) -> Result<Option<SecretString>, TokenError>;

    /// The server does not take the token any more, whatever its expiry says.
    fn rejected(&self) {}
}

/// No token: the key counts.
struct KeyOnly;

#[async_trait]
impl TokenSource for KeyOnly {
    async fn token(&self) -> Result<Option<SecretString>, TokenError> {
        Ok(None)
    }
}

/// Where the client connects and how.
pub struct Config {
    pub(super) endpoint: Url,
    key: SecretString,
    pub(super) tokens: Arc<dyn TokenSource>,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) timing: Timing,
    pub(super) jitter: Jitter,
    pub(super) inbox: InboxLimits,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoint", &self.endpoint.as_str())
            .finish_non_exhaustive()
    }
}

impl Config {
    /// A client of the project at `url`, such as `https://abc.supabase.co` or `http://127.0.0.1:54321`; a URL that ends in
    /// `/websocket` is taken as it is. `key` is the anon, publishable, service or secret key.
    ///
    /// # Errors
    /// When the URL is of no use.
    pub fn new(url: &str, key: impl Into<SecretString>) -> Result<Self, ConfigError> {
        Ok(Self {
            endpoint: endpoint(url)?,
            key: key.into(),
            tokens: Arc::new(KeyOnly),
            dial: Arc::new(Tcp),
            timing: Timing::default(),
            jitter: Box::new(rand::random::<f64>),
            inbox: InboxLimits::default(),
        })
    }

    /// Joins channels with tokens of this source.
    #[must_use]
    pub fn tokens(mut self, tokens: Arc<dyn TokenSource>) -> Self {
        self.tokens = tokens;
        self
    }

    /// Makes connections in another way than plain TCP.
    #[must_use]
    pub fn dial(mut self, dial: Arc<dyn Dial>) -> Self {
        self.dial = dial;
        self
    }

    /// Other waiting times.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Another source of jitter, for tests.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Other bounds of the queue of each channel.
    #[must_use]
    pub fn inbox(mut self, limits: InboxLimits) -> Self {
        self.inbox = limits;
        self
    }

    /// The URL of the handshake, with the key in it: never to be logged.
    pub(super) fn handshake_url(&self, version: Version) -> SecretString {
        let mut url = self.endpoint.clone();
        url.query_pairs_mut()
            .append_pair("apikey", self.key.expose_secret())
            .append_pair("vsn", version.as_str());
        url.as_str().into()
    }
}

fn endpoint(text: &str) -> Result<Url, ConfigError> {
    let mut url = Url::parse(text)?;
    let scheme = match url.scheme() {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        other => return Err(ConfigError::Scheme(other.to_owned())),
    };
    if url.set_scheme(scheme).is_err() || url.host_str().is_none() {
        return Err(ConfigError::Host);
    }
    url.set_fragment(None);
    if !url.path().ends_with("/websocket") {
        let path = format!("{}/realtime/v1/websocket", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_urls_become_socket_urls() {
        for (given, expected) in [
            (
                "https://abc.supabase.co",
                "wss://abc.supabase.co/realtime/v1/websocket",
            ),
            (
                "http://127.0.0.1:54321/",
                "ws://127.0.0.1:54321/realtime/v1/websocket",
            ),
            (
                "ws://localhost:4000/socket/websocket",
                "ws://localhost:4000/socket/websocket",
            ),
        ] {
            assert_eq!(endpoint(given).unwrap().as_str(), expected);
        }
        assert!(matches!(
            endpoint("postgres://x"),
            Err(ConfigError::Scheme(_))
        ));
        assert!(matches!(endpoint("abc"), Err(ConfigError::Url(_))));
    }

    #[test]
    fn the_key_is_escaped_and_never_shown() {
        let config = Config::new("http://h", "a&b=c").unwrap();
        let url = config.handshake_url(Version::V2);
        assert_eq!(
            url.expose_secret(),
            "ws://h/realtime/v1/websocket?apikey=a%26b%3Dc&vsn=2.0.0"
        );
        assert!(!format!("{config:?}").contains("a&b"));
    }
}
