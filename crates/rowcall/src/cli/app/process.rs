//! `rowcall app start`, `stop`, `restart`, `logs` and `open`: the program of an app.

use futures_util::StreamExt as _;
use reqwest::Method;
use rowcall_core::AppId;
use serde_json::Value;

use crate::{
    cli::{
        Context,
        client::{Client, segment},
    },
    exit::{Exit, UserError},
    output,
};

/// How long a start is watched before the command ends: it goes on without it.
const WATCHED: std::time::Duration = std::time::Duration::from_secs(20);

/// How often the state is asked for while a start is watched.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

/// The most of one line of an event stream that is kept, in bytes.
const MAX_EVENT: usize = 1024 * 1024;

fn path(name: &AppId, what: &str) -> String {
    format!("/apps/{}{what}", segment(name.as_str()))
}

/// Starts or restarts, and watches it come up.
pub(super) async fn start(context: &Context, name: &AppId, verb: &str) -> anyhow::Result<Exit> {
    let client = Client::new(context)?;
    client
        .ask(Method::POST, &path(name, &format!("/{verb}")), None)
        .await?;
    let deadline = tokio::time::Instant::now() + WATCHED;
    loop {
        let app = client.ask(Method::GET, &path(name, ""), None).await?;
        let process = &app["process"];
        match process["state"].as_str().unwrap_or_default() {
            "running" => {
                let at = app["url"]
                    .as_str()
                    .map_or_else(String::new, |url| format!(" at {url}"));
                output::note(format_args!("{name} runs{at}"));
                return Ok(Exit::Success);
            }
            "starting" if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            "starting" => {
                output::note(format_args!(
                    "{name} is still starting: see `rowcall app logs {name}`"
                ));
                return Ok(Exit::Success);
            }
            _ => {
                let problem = process["problem"].as_str().unwrap_or("it ended at once");
                return Err(UserError::new(
                    Exit::Failure,
                    format!("{name} does not run: {problem}"),
                )
                .help(format!("`rowcall app logs {name}` shows what it printed"))
                .into());
            }
        }
    }
}

/// Stops it and everything it started.
pub(super) async fn stop(context: &Context, name: &AppId) -> anyhow::Result<Exit> {
    Client::new(context)?
        .ask(Method::POST, &path(name, "/stop"), None)
        .await?;
    output::note(format_args!("{name} is stopped"));
    Ok(Exit::Success)
}

/// Prints what it printed, and goes on with `follow`.
pub(super) async fn logs(
    context: &Context,
    name: &AppId,
    lines: usize,
    follow: bool,
) -> anyhow::Result<Exit> {
    let client = Client::new(context)?;
    let page = client
        .ask(Method::GET, &path(name, "/logs?limit=5000"), None)
        .await?;
    let all = page["lines"].as_array().cloned().unwrap_or_default();
    for line in &all[all.len().saturating_sub(lines)..] {
        print(line)?;
    }
    if !follow {
        return Ok(Exit::Success);
    }
    let after = all
        .last()
        .and_then(|line| line["seq"].as_u64())
        .unwrap_or(0);
    let answer = client
        .stream(&path(name, &format!("/logs?follow=true&after={after}")))
        .await?;
    let mut chunks = answer.bytes_stream();
    let mut waiting = Vec::new();
    while let Some(chunk) = chunks.next().await {
        // The daemon has stopped: so does following it.
        let Ok(chunk) = chunk else { break };
        waiting.extend_from_slice(&chunk);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            if let Some(data) = line.strip_prefix(b"data: ")
                && let Ok(line @ Value::Object(_)) = serde_json::from_slice(data)
            {
                print(&line)?;
            }
        }
        if waiting.len() > MAX_EVENT {
            waiting.clear();
        }
    }
    Ok(Exit::Success)
}

fn print(line: &Value) -> std::io::Result<()> {
    let text: String = line["line"]
        .as_str()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control() || *c == '\t')
        .collect();
    output::line(text)
}

/// Opens its pages in the browser, or prints where they are.
pub(super) async fn open(
    context: &Context,
    name: &AppId,
    print_only: bool,
) -> anyhow::Result<Exit> {
    let app = Client::new(context)?
        .ask(Method::GET, &path(name, ""), None)
        .await?;
    let Some(url) = app["url"]
        .as_str()
        .filter(|url| url.starts_with("http://") || url.starts_with("https://"))
    else {
        return Err(
            UserError::new(Exit::Failure, format!("{name} serves no pages now"))
                .help(format!("start it with `rowcall app start {name}`"))
                .into(),
        );
    };
    output::line(url)?;
    if !print_only {
        let opener = if cfg!(target_os = "macos") {
            "open"
        } else {
            "xdg-open"
        };
        let opened = tokio::process::Command::new(opener)
            .arg(url)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .await;
        if !opened.is_ok_and(|status| status.success()) {
            output::note("no browser could be started: open the address yourself");
        }
    }
    Ok(Exit::Success)
}
