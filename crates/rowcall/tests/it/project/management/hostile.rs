//! An API that answers what no API should.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use rowcall::management::{Management, ManagementError};

/// More than is ever read.
const HUGE: usize = 5 * 1024 * 1024;

type Answer = fn() -> Response;

/// A server that gives every request the same answer.
struct Stubborn {
    url: String,
    asked: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn stubborn(answer: Answer) -> Stubborn {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let routes = Router::new().fallback(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let answer = answer();
        async move { answer }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move {
        axum::serve(listener, routes).await.expect("it serves");
    });
    Stubborn {
        url,
        asked,
        serving,
    }
}

#[tokio::test]
async fn nonsense_is_a_clear_error_and_asked_for_once() {
    let redirect = || {
        let headers = [("location", "/v1/projects/again")];
        (StatusCode::FOUND, headers).into_response()
    };
    let cases: [(Answer, &str); 5] = [
        (redirect, "answered 302"),
        (|| "<html>".into_response(), "what cannot be read"),
        (
            || r#"{"name": 7, "status": []}"#.into_response(),
            "what cannot be read",
        ),
        (
            || vec![b' '; HUGE].into_response(),
            "more than 4194304 bytes",
        ),
        (
            || (StatusCode::INTERNAL_SERVER_ERROR, "x".repeat(100_000)).into_response(),
            "answered 500",
        ),
    ];
    for (answer, says) in cases {
        let server = stubborn(answer).await;
        let api = Management::new(&server.url, "sbp_secret".to_owned().into()).unwrap();
        let error = api.project("abc").await.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, ManagementError::Unexpected { .. }),
            "{text}"
        );
        assert_eq!(error.code(), "management-answer");
        assert!(text.contains(says) && text.len() < 1_000, "{text}");
        assert!(!text.contains("sbp_secret"), "{text}");
        assert_eq!(server.asked.load(Ordering::Relaxed), 1, "{says}");
    }
}
