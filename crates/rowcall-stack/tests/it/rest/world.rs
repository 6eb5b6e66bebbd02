//! A stack over a copy of the fixture's database.

use std::sync::Arc;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use rowcall_core::{Clock, FixedClock};
use rowcall_stack::auth::{AuthConfig, Keys};
use rowcall_stack::stack::{Stack, StackConfig, loopback};
use rowcall_stack::testing::TestDb;
use serde_json::{Value, json};

/// The moment all tests happen at.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("a time")
}

pub(crate) struct World {
    pub(crate) db: TestDb,
    pub(crate) stack: Stack,
    pub(crate) keys: Keys,
    pub(crate) clock: FixedClock,
    http: reqwest::Client,
}

/// An answer, its body read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    #[track_caller]
    pub(crate) fn expect(&self, status: u16, body: Value) {
        assert_eq!(
            (self.status.as_u16(), self.json()),
            (status, body),
            "{}",
            self.text
        );
    }

    #[track_caller]
    pub(crate) fn expect_empty(&self, status: u16) {
        assert_eq!((self.status.as_u16(), self.text.as_str()), (status, ""));
    }

    #[track_caller]
    pub(crate) fn expect_error(&self, status: u16, code: &str) -> Value {
        let body = self.json();
        assert_eq!(
            (self.status.as_u16(), body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.text
        );
        for key in ["code", "message", "details", "hint"] {
            assert!(body.get(key).is_some(), "{key} is missing: {}", self.text);
        }
        body
    }
}

/// A request being made.
pub(crate) struct Ask<'w> {
    builder: reqwest::RequestBuilder,
    #[expect(dead_code, reason = "keeps the world alive while asking")]
    world: &'w World,
}

impl Ask<'_> {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub(crate) fn prefer(self, value: &str) -> Self {
        self.header("prefer", value)
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.builder = self
            .builder
            .header("content-type", "application/json")
            .body(body.to_string());
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        self.builder = self.builder.header("content-type", content_type).body(body);
        self
    }

    pub(crate) async fn send(self) -> Answer {
        let answer = self.builder.send().await.expect("an answer");
        Answer {
            status: answer.status(),
            headers: answer.headers().clone(),
            text: answer.text().await.expect("a body"),
        }
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut StackConfig)) -> Self {
        // Another test of this program may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let db = TestDb::from_template("rest", |url| async move {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            let driver = tokio::spawn(connection);
            rowcall_stack::bootstrap::apply(&client).await?;
            client.batch_execute(include_str!("fixture.sql")).await?;
            drop(client);
            driver.await??;
            Ok::<_, anyhow::Error>(())
        })
        .await;
        let clock = FixedClock::at(now());
        let keys = Keys::generate(now());
        let clock_port: Arc<dyn Clock> = Arc::new(clock.clone());
        let mut config = StackConfig::new(db.url(), keys.clone(), clock_port);
        config.bind = loopback(0);
        config.rest.schemas = vec!["public".to_owned(), "other".to_owned()];
        config.auth = AuthConfig {
            anonymous: true,
            ..AuthConfig::default()
        };
        change(&mut config);
        let keys = config.keys.clone();
        let stack = Stack::start(config).await.expect("the stack starts");
        let http = reqwest::Client::builder()
            .timeout(std::time::Duration::from_secs(30))
            .build()
            .expect("a client");
        Self {
            db,
            stack,
            keys,
            clock,
            http,
        }
    }

    /// A request below `/rest/v1`.
    pub(crate) fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        self.ask_url(method, &format!("{}/rest/v1{path}", self.stack.url()))
    }

    /// A request below `/auth/v1`, as current clients make them.
    pub(crate) fn auth(&self, method: Method, path: &str) -> Ask<'_> {
        self.ask_url(method, &format!("{}/auth/v1{path}", self.stack.url()))
            .header("x-supabase-api-version", "2024-01-01")
            .header("apikey", self.keys.anon_key())
    }

    pub(crate) fn ask_url(&self, method: Method, url: &str) -> Ask<'_> {
        Ask {
            builder: self.http.request(method, url),
            world: self,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Ask<'_> {
        self.ask(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Ask<'_> {
        self.ask(Method::POST, path).json(body)
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Ask<'_> {
        self.ask(Method::PATCH, path).json(body)
    }

    /// The JSON of a successful GET.
    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> impl Future<Output = Value> {
        let ask = self.get(path).send();
        let path = path.to_owned();
        let caller = std::panic::Location::caller();
        async move {
            let answer = ask.await;
            assert!(
                answer.status.is_success(),
                "{caller}: {path}: {} {}",
                answer.status,
                answer.text
            );
            answer.json()
        }
    }

    /// A token of `role`, valid for an hour.
    pub(crate) fn token(&self, role: &str, subject: Option<&str>) -> String {
        let mut claims = json!({"role": role, "exp": now().as_second() + 3600});
        if let Some(subject) = subject {
            claims["sub"] = json!(subject);
        }
        self.keys.sign(&claims)
    }
}
