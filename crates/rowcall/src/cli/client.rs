//! Commands that need the running daemon speak to its `/rowcall/v1`.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, Response};
use serde_json::Value;

use super::Context;
use crate::{
    api::Session,
    daemon::RunFile,
    exit::{Exit, UserError},
};

/// How long an answer may take. Stopping an app waits for its processes.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of the running daemon.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    /// Finds the daemon of the context's data directory.
    pub(super) fn new(context: &Context) -> anyhow::Result<Self> {
        let data_dir = context.data_dir()?;
        let absent = || {
            UserError::new(Exit::Failure, "no daemon runs on this data directory")
                .help("start one with `rowcall up`")
        };
        let run_file = RunFile::read(&data_dir)?.ok_or_else(absent)?;
        let token = Session::read(&data_dir).map_err(|_| absent())?;
        // Only the first call of a process installs it. Nothing here is encrypted, but the client wants to know how.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()
            .context("cannot prepare a client")?;
        Ok(Self {
            http,
            base: format!("http://127.0.0.1:{}/rowcall/v1", run_file.api_port),
            token,
        })
    }

    /// Asks, and takes what is said as JSON.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let request = async {
            let answer = self.send(method, path, body).await?;
            answer
                .json()
                .await
                .context("the daemon's answer cannot be read")
        };
        tokio::time::timeout(TIMEOUT, request)
            .await
            .map_err(|_| UserError::new(Exit::Failure, "the daemon did not answer in time"))?
    }

    /// Asks for an answer that goes on.
    pub(super) async fn stream(&self, path: &str) -> anyhow::Result<Response> {
        self.send(Method::GET, path, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| {
            UserError::new(
                Exit::Failure,
                format!("the daemon cannot be reached: {error}"),
            )
            .help("is it still running? `rowcall up` starts it")
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said: Value = answer.json().await.unwrap_or_default();
        let message = said["error"]
            .as_str()
            .map_or_else(|| format!("the daemon answered {status}"), str::to_owned);
        let exit = if status.as_u16() == 404 {
            Exit::NotFound
        } else {
            Exit::Failure
        };
        Err(UserError::new(exit, message).into())
    }
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn names_become_one_segment() {
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
        assert_eq!(segment("é..-_"), "%C3%A9%2E%2E-_");
    }
}
