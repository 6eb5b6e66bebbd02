//! supabase-js in a real browser: Chromium without a window, on a page of another origin than the API.

use std::{net::SocketAddr, process::Stdio, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::header,
    routing::{get, post},
};
use rowcall_stack::testing::{TestDb, scratch_dir};
use tokio::{process::Command, sync::mpsc};

use super::{DIARY, clients};
use crate::support::{PATIENCE, Stack};

/// Names under which distributions install the browser.
const PROGRAMS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];

/// The browser, as `cargo xtask test` installs it.
fn chromium() -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|dir| PROGRAMS.map(|name| dir.join(name)))
        .find(|file| file.is_file());
    Command::new(found.expect("no browser: install Chromium (Debian: apt-get install chromium; `cargo xtask test` does it for root)"))
}

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
    let profile = scratch_dir();
    let mut browser = chromium()
        .args([
            "--headless=new",
            // It refuses root otherwise; the page is ours.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--enable-logging=stderr",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{address}/"))
        .env("HOME", profile.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(profile.path().join("browser.log")).expect("a log"))
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .expect("the browser starts");
    let outcome = tokio::time::timeout(PATIENCE, said.recv()).await;
    // Its helpers are of its group.
    if let Some(pid) = browser.id().and_then(|id| i32::try_from(id).ok()) {
        let group = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
    let _ = browser.wait().await;
    let log = std::fs::read_to_string(profile.path().join("browser.log")).unwrap_or_default();
    let outcome = outcome.unwrap_or_else(|_| panic!("the page says nothing:\n{log}"));
    assert_eq!(outcome.as_deref(), Some("ok"), "{log}");
    stack.stop().await;
}
