//! Supabase's Management API, as far as setting a project up needs it, and the log-in that gives a token for it.

mod login;

use std::time::Duration;

use reqwest::{Client, Method, StatusCode, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::Url;

pub use login::{LoginAttempt, LoginError, is_token};

/// How long one answer may take. Setting a schema up is one request.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The longest text kept of an error, in characters.
const MAX_ERROR_CHARS: usize = 500;

/// Why the API did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// The token is not valid, or not any more.
    #[error("Supabase does not take the account's token")]
    Unauthorized,
    /// The account may not do that in this project.
    #[error("access denied: the account may not change this project")]
    Denied,
    /// There is no such project, as far as the account may see.
    #[error("the account sees no such project")]
    NotFound,
    /// The SQL was refused.
    #[error("the project's database refused the SQL: {0}")]
    Sql(String),
    /// No answer.
    #[error("Supabase's Management API cannot be reached: {0}")]
    Unreachable(String),
    /// An answer that the documentation does not know.
    #[error("Supabase's Management API answered {status}: {message}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
}

impl ManagementError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized => "account-token",
            Self::Denied => "account-denied",
            Self::NotFound => "account-project",
            Self::Sql(_) => "project-sql",
            Self::Unreachable(_) => "management-unreachable",
            Self::Unexpected { .. } => "management-answer",
        }
    }
}

/// Who an account is.
#[derive(Clone, Debug, Deserialize)]
pub struct Profile {
    /// Its address.
    #[serde(default)]
    pub primary_email: Option<String>,
    /// Its name.
    #[serde(default)]
    pub username: Option<String>,
}

/// A project.
#[derive(Clone, Debug, Deserialize)]
pub struct ProjectInfo {
    /// Its name for people.
    pub name: String,
    /// `ACTIVE_HEALTHY`, `INACTIVE` …
    #[serde(default)]
    pub status: String,
}

#[derive(Deserialize)]
struct ApiKey {
    name: String,
    #[serde(default, rename = "api_key")]
    value: Option<SecretString>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

/// The API with an account's token.
pub struct Management {
    http: Client,
    base: Url,
    token: SecretString,
}

impl std::fmt::Debug for Management {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Management")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// A client that follows no redirects: a token must not travel on.
fn client() -> Result<Client, ManagementError> {
    // Only the first call of a process installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .timeout(TIMEOUT)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("rowcall/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ManagementError::Unreachable(error.to_string()))
}

fn base(url: &str) -> Result<Url, ManagementError> {
    let base = Url::parse(url).ok();
    base.filter(|base| ["http", "https"].contains(&base.scheme()) && base.has_host())
        .ok_or_else(|| ManagementError::Unreachable(format!("{url:?} is no URL of an API")))
}

fn endpoint(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

impl Management {
    /// The API at `url` for the holder of a token.
    pub fn new(url: &str, token: SecretString) -> Result<Self, ManagementError> {
        Ok(Self {
            http: client()?,
            base: base(url)?,
            token,
        })
    }

    /// Whose token it is.
    pub async fn profile(&self) -> Result<Profile, ManagementError> {
        self.ask(Method::GET, &["v1", "profile"], None).await
    }

    /// A project that the account may see.
    pub async fn project(&self, project: &str) -> Result<ProjectInfo, ManagementError> {
        self.ask(Method::GET, &["v1", "projects", project], None)
            .await
    }

    /// The key that clients use: the publishable one, or else the anon key.
    pub async fn client_key(&self, project: &str) -> Result<Option<SecretString>, ManagementError> {
        let path = ["v1", "projects", project, "api-keys"];
        let keys: Vec<ApiKey> = self
            .ask(Method::GET, &path, Some(("reveal", "true")))
            .await?;
        let find = |wanted: &dyn Fn(&ApiKey) -> bool| {
            keys.iter()
                .find(|key| wanted(key))
                .and_then(|key| key.value.clone())
        };
        Ok(find(&|key| key.kind.as_deref() == Some("publishable"))
            .or_else(|| find(&|key| key.name == "anon")))
    }

    /// Runs SQL in the project's database, as its owner.
    pub async fn query(&self, project: &str, sql: &str) -> Result<Vec<Value>, ManagementError> {
        let path = ["v1", "projects", project, "database", "query"];
        let request = self
            .http
            .post(endpoint(&self.base, &path))
            .json(&json!({ "query": sql }));
        let (status, body) = self.send(request).await?;
        if status == StatusCode::BAD_REQUEST {
            return Err(ManagementError::Sql(message(&body)));
        }
        read(status, &body)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: Option<(&str, &str)>,
    ) -> Result<T, ManagementError> {
        let mut url = endpoint(&self.base, path);
        if let Some((key, value)) = query {
            url.query_pairs_mut().append_pair(key, value);
        }
        let (status, body) = self.send(self.http.request(method, url)).await?;
        read(status, &body)
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, Vec<u8>), ManagementError> {
        bounded(request.bearer_auth(self.token.expose_secret())).await
    }
}

async fn bounded(
    request: reqwest::RequestBuilder,
) -> Result<(StatusCode, Vec<u8>), ManagementError> {
    let unreachable = |error: reqwest::Error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        ManagementError::Unreachable(cause.unwrap_or_else(|| error.to_string()))
    };
    let mut answer = request.send().await.map_err(unreachable)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(ManagementError::Unexpected {
                status: answer.status().as_u16(),
                message: format!("more than {MAX_ANSWER_BYTES} bytes"),
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status(), body))
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, ManagementError> {
    match status {
        StatusCode::UNAUTHORIZED => return Err(ManagementError::Unauthorized),
        StatusCode::FORBIDDEN => return Err(ManagementError::Denied),
        StatusCode::NOT_FOUND => return Err(ManagementError::NotFound),
        _ => {}
    }
    let unexpected = |message: String| ManagementError::Unexpected {
        status: status.as_u16(),
        message,
    };
    if !status.is_success() {
        return Err(unexpected(message(body)));
    }
    serde_json::from_slice(body)
        .map_err(|error| unexpected(format!("what cannot be read: {error}")))
}

fn message(body: &[u8]) -> String {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let said = said.and_then(|said| said["message"].as_str().map(str::to_owned));
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    crate::output::shorten(&said, MAX_ERROR_CHARS)
}

/// The project's name in the API, from its URL: `https://<ref>.supabase.co`.
pub fn project_ref(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let name = url.host_str()?.strip_suffix(".supabase.co")?;
    let fits = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_lowercase());
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_project_is_in_its_url() {
        for (url, name) in [
            (
                "https://abcdefghijklmnopqrst.supabase.co",
                Some("abcdefghijklmnopqrst"),
            ),
            (
                "https://abcdefghijklmnopqrst.supabase.co/",
                Some("abcdefghijklmnopqrst"),
            ),
            ("https://abc.supabase.co", None),
            ("http://127.0.0.1:54321", None),
            ("rubbish", None),
        ] {
            assert_eq!(project_ref(url).as_deref(), name, "{url}");
        }
    }
}
