//! Time-outs, stops and accepted reports.

use std::time::Duration;

use rowcall_core::AgentErrorKind;
use tokio::time::Instant;

use crate::support::{PATIENCE, Place, until};

/// Long enough for a shell to start on a busy machine.
const SHORT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_agent_that_takes_too_long_is_asked_to_end() {
    let place = Place::new();
    let run = place
        .sh("trap 'echo asked; exit 0' TERM; echo started; while :; do sleep 0.05; done")
        .timeout(SHORT);
    let error = run.go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::TimedOut);
    assert!(
        error
            .message
            .contains("within 5 s and was stopped with SIGTERM")
    );
    assert!(
        run.log.has("asked"),
        "it was not given the time to clean up"
    );
    place.close().await;
}

#[tokio::test]
async fn an_agent_that_ignores_term_is_killed() {
    let place = Place::new();
    let run = place
        .sh("trap '' TERM; echo started; while :; do sleep 0.05; done")
        .timeout(SHORT);
    let error = run.go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::TimedOut);
    assert!(
        error.message.contains("ignored SIGTERM"),
        "{}",
        error.message
    );
    place.close().await;
}

#[tokio::test]
async fn a_stopped_process_is_ended_too() {
    let place = Place::new();
    let run = place.sh("echo started; kill -STOP $$").timeout(SHORT);
    let error = run.go().await.unwrap_err();
    assert!(error.message.contains("SIGTERM"), "{}", error.message);
    place.close().await;
}

#[tokio::test]
async fn stop_ends_the_agent_and_releases_the_task() {
    let place = Place::new();
    let run = place.sh("echo started; exec sleep 600");
    let (outcome, ()) = tokio::join!(run.go(), async {
        until("the agent runs", || run.log.has("started")).await;
        run.stop.cancel();
    });
    assert_eq!(outcome.unwrap_err().kind, AgentErrorKind::Canceled);
    place.close().await;
}

#[tokio::test]
async fn a_run_that_is_stopped_before_it_starts_does_not_start() {
    let place = Place::new();
    let run = place.sh("touch ran");
    run.stop.cancel();
    assert_eq!(run.go().await.unwrap_err().kind, AgentErrorKind::Canceled);
    assert!(!place.path("home/ran").exists());
    place.close().await;
}

#[tokio::test]
async fn after_a_report_the_exit_code_no_longer_counts() {
    let place = Place::new();
    let run = place.sh("echo started; while [ ! -e go ]; do sleep 0.02; done; exit 1");
    let go = place.path("home/go");
    let (outcome, ()) = tokio::join!(run.go(), async {
        until("the agent runs", || run.log.has("started")).await;
        run.reported.cancel();
        std::fs::write(&go, "").unwrap();
    });
    assert_eq!(outcome.unwrap(), "{}");
    place.close().await;
}

#[tokio::test]
async fn an_agent_that_goes_on_after_its_report_is_ended() {
    let place = Place::new();
    let run = place.sh("echo started; exec sleep 600");
    let begun = Instant::now();
    let (outcome, ()) = tokio::join!(run.go(), async {
        until("the agent runs", || run.log.has("started")).await;
        run.reported.cancel();
    });
    assert_eq!(outcome.unwrap(), "{}");
    assert!(begun.elapsed() < PATIENCE, "it was waited for");
    place.close().await;
}
