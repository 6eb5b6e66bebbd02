//! What an app prints, followed over HTTP and from the command line.

use std::process::Stdio;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{
    apps::with_program,
    world::{As, World},
};
use crate::support::{PATIENCE, command, until};

#[tokio::test]
async fn output_is_followed_as_it_comes() {
    let script =
        "n=0; while true; do n=$((n+1)); echo line $n; echo error $n >&2; sleep 0.05; done";
    let world = World::start_with(&with_program(script, &json!({})), &[]).await;
    world
        .post("/rowcall/v1/apps/demo/start", As::Operator, &json!({}))
        .await;
    let request = world.request(
        Method::GET,
        "/rowcall/v1/apps/demo/logs?follow=true",
        As::Operator,
    );
    let mut answer = request.send().await.unwrap();
    let mut text = String::new();
    let read = async {
        while !(text.contains("line 5") && text.contains("error 5")) {
            text.push_str(
                std::str::from_utf8(&answer.chunk().await.unwrap().expect("it goes on")).unwrap(),
            );
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("lines come");
    assert!(
        text.contains("event: line") && text.contains("\"stream\":\"stderr\""),
        "{text}"
    );
    world.daemon.stop().await;
}

/// The command prints what was there, goes on with what comes, each line once, and ends with the daemon.
#[tokio::test]
async fn the_command_follows_until_the_daemon_ends() {
    // The second line waits until the first was read.
    let script = "echo before; until [ -e go ]; do sleep 0.02; done; \
                  printf 'after \\033[31mred\\n'; exec sleep 1000";
    let world = World::start_with(&with_program(script, &json!({})), &[]).await;
    world
        .post("/rowcall/v1/apps/demo/start", As::Operator, &json!({}))
        .await;
    until("the first line is kept", async || {
        let lines = world.cli_ok(&["app", "logs", "demo"]).await;
        if lines == "before\n" {
            Ok(())
        } else {
            Err(lines)
        }
    })
    .await;
    let mut following = command(&world.path())
        .args(["app", "logs", "demo", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        line.expect("a line comes").unwrap()
    };
    assert_eq!(next().await.as_deref(), Some("before"));
    std::fs::write(world.path().join("go"), "").unwrap();
    // No terminal shall do what an app prints.
    assert_eq!(next().await.as_deref(), Some("after [31mred"));
    world.daemon.stop().await;
    assert_eq!(next().await, None, "it ends with the daemon");
    let ended = tokio::time::timeout(PATIENCE, following.wait_with_output())
        .await
        .expect("it ends")
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
}
