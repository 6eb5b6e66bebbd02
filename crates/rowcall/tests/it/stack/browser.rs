//! supabase-js in a real browser: Chromium without a window, on a page of another origin than the API.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::header,
    routing::{get, post},
};
use rowcall_stack::testing::TestDb;
use tokio::sync::mpsc;

use super::DIARY;
use crate::support::{Browser, PATIENCE, Stack, clients};

/// Serves the page and what it needs; what it says at the end comes through the channel.
async fn page(settings: String) -> (SocketAddr, mpsc::Receiver<String>) {
    let (sender, receiver) = mpsc::channel(1);
    let read = |path: &str| std::fs::read(clients().join(path)).expect("run `cargo xtask clients`");
    let file = |kind: &'static str, content: Vec<u8>| {
        let content = Arc::new(content);
        get(async move || ([(header::CONTENT_TYPE, kind)], content.to_vec()))
    };
    let script = "text/javascript; charset=utf-8";
    let library = "node_modules/@supabase/supabase-js/dist/umd/supabase.js";
    let app = Router::new()
        .route("/", file("text/html; charset=utf-8", read("js/page.html")))
        .route("/supabase.js", file(script, read(library)))
        .route("/everything.mjs", file(script, read("js/everything.mjs")))
        .route("/settings", file("application/json", settings.into_bytes()))
        .route("/done", post(done))
        .with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, receiver)
}

async fn done(State(sender): State<mpsc::Sender<String>>, said: String) {
    // A second word would come from a page that was loaded twice.
    let _ = sender.try_send(said);
}

#[tokio::test]
async fn supabase_js_works_in_a_page() {
    let db = TestDb::create().await;
    let stack = Stack::start(&db.url()).await;
    db.connect()
        .await
        .batch_execute(DIARY)
        .await
        .expect("a table");
    let settings =
        serde_json::json!({"url": stack.url(), "key": stack.settings["PUBLISHABLE_KEY"]});
    let (address, mut said) = page(settings.to_string()).await;
    let browser = Browser::open(&format!("http://{address}/"), &[]);
    let outcome = tokio::time::timeout(PATIENCE, said.recv()).await;
    let log = browser.log();
    let outcome = outcome.unwrap_or_else(|_| panic!("the page says nothing:\n{log}"));
    assert_eq!(outcome.as_deref(), Some("ok"), "{log}");
    stack.stop().await;
}
