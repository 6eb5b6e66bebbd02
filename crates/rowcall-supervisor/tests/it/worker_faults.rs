//! Warm workers that crash, hang, babble and lie.

use std::time::Duration;

use rowcall_core::{AgentErrorKind, AgentKind, Runtime};

use crate::{
    support::{PATIENCE, Place, alive, command, until},
    worker::{WORKER, place, starts, task},
};

#[tokio::test]
async fn a_crash_fails_what_was_in_flight_and_the_next_task_starts_anew() {
    let place = place();
    let crash = task(&place, 2, r#"{"do": "crash"}"#);
    let bystander = task(&place, 2, r#"{"do": "wait"}"#);
    let (other, error) = tokio::join!(bystander.go(), async {
        until("the other waits", || bystander.log.has("waiting")).await;
        crash.go().await.unwrap_err()
    });
    assert_eq!(error.kind, AgentErrorKind::Failed);
    assert!(
        error
            .message
            .contains("exited with code 3 while it had this task"),
        "{}",
        error.message
    );
    assert!(
        error.message.contains("about to crash"),
        "{}",
        error.message
    );
    assert_eq!(other.unwrap_err().kind, AgentErrorKind::Failed);
    task(&place, 2, r#"{"do": "echo"}"#).go().await.unwrap();
    assert_eq!(starts(&place), 2);
    place.close().await;
}

#[tokio::test]
async fn leaving_without_an_answer_is_forgiven_once() {
    let place = place();
    let run = task(&place, 1, r#"{"do": "leave"}"#);
    let error = run.go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::Failed);
    assert!(
        error
            .message
            .contains("exited with code 0 while it had this task"),
        "{}",
        error.message
    );
    assert_eq!(starts(&place), 2);
    place.close().await;
}

#[tokio::test]
async fn a_task_that_ignores_cancel_takes_the_worker_down() {
    let place = place();
    let hang = task(&place, 2, r#"{"do": "hang"}"#).timeout(Duration::from_millis(500));
    let bystander = task(&place, 2, r#"{"do": "wait"}"#);
    let (other, error) = tokio::join!(bystander.go(), async {
        until("the other waits", || bystander.log.has("waiting")).await;
        hang.go().await.unwrap_err()
    });
    assert_eq!(error.kind, AgentErrorKind::TimedOut);
    assert!(
        error.message.contains("did not react to cancel"),
        "{}",
        error.message
    );
    let other = other.unwrap_err();
    assert_eq!(other.kind, AgentErrorKind::Canceled, "it did nothing wrong");
    assert!(
        other.message.contains("another of its tasks"),
        "{}",
        other.message
    );
    task(&place, 2, r#"{"do": "echo"}"#).go().await.unwrap();
    assert_eq!(starts(&place), 2);
    place.close().await;
}

#[tokio::test]
async fn a_run_that_is_dropped_ends_in_the_worker_too() {
    let place = place();
    let run = task(&place, 1, r#"{"do": "hang"}"#);
    {
        let mut going = Box::pin(run.go());
        tokio::select! {
            _ = &mut going => panic!("it hangs"),
            () = until("it hangs", || run.log.has("hanging")) => {}
        }
    }
    until("the worker is gone", || !alive(&place.path("home/pid"))).await;
    task(&place, 1, r#"{"do": "echo"}"#).go().await.unwrap();
    place.close().await;
}

#[tokio::test]
async fn second_answers_and_unknown_ids_are_ignored() {
    let place = place();
    assert_eq!(
        task(&place, 1, r#"{"do": "twice"}"#).go().await.unwrap(),
        "1"
    );
    let run = task(&place, 1, r#"{"do": "wrong id"}"#);
    assert_eq!(run.go().await.unwrap(), "2");
    assert!(
        run.log.has("ignored an answer for task nobody"),
        "{:?}",
        run.log.all()
    );
    assert_eq!(starts(&place), 1);
    place.close().await;
}

#[tokio::test]
async fn garbage_is_output() {
    let place = place();
    let run = task(&place, 1, r#"{"do": "garbage"}"#);
    assert_eq!(run.go().await.unwrap(), "\"understood\"");
    assert!(run.log.has("{broken"));
    assert!(run.log.has("ignored a message: result without id"));
    assert!(run.log.has("\u{fffd}\u{fffd}"));
    let run = task(&place, 1, r#"{"do": "flood"}"#);
    assert_eq!(run.go().await.unwrap(), "\"flooded\"");
    assert!(run.log.has("more than 4194304 bytes"));
    assert_eq!(starts(&place), 1);
    place.close().await;
}

#[tokio::test]
async fn a_message_above_the_limit_breaks_the_protocol() {
    let place = Place::with(|options| options.limits.result_bytes = 100_000);
    place.file("worker.py", WORKER);
    let big = task(&place, 1, r#"{"do": "huge", "n": 99000}"#);
    assert_eq!(big.go().await.unwrap().len(), 99_002);
    let huge = task(&place, 1, r#"{"do": "huge", "n": 5000000}"#);
    let error = huge.go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::Protocol);
    assert!(
        error.message.contains("the limit is 100000"),
        "{}",
        error.message
    );
    task(&place, 1, r#"{"do": "echo"}"#).go().await.unwrap();
    place.close().await;
}

#[tokio::test]
async fn a_worker_that_stops_reading_is_restarted() {
    let place = place();
    task(&place, 2, r#"{"do": "echo"}"#).go().await.unwrap();
    let deaf = task(&place, 2, r#"{"do": "deaf"}"#);
    // Python's own reading thread may hold the pipe until the next line: one more task makes sure.
    let more = task(&place, 2, r#"{"do": "hang"}"#).timeout(Duration::from_secs(2));
    let (one, two) = tokio::join!(deaf.go(), more.go());
    one.unwrap_err();
    two.unwrap_err();
    task(&place, 2, r#"{"do": "echo"}"#).go().await.unwrap();
    place.close().await;
}

#[tokio::test]
async fn a_worker_that_never_gets_ready_is_given_up() {
    let place = Place::with(|options| {
        options.worker.crash_limit = 3;
        options.worker.crash_pause = Duration::from_secs(5);
    });
    let path = place.file(
        "broken.sh",
        "echo x >> starts\necho 'ModuleNotFoundError: torch' >&2\nexit 1\n",
    );
    let run = || {
        place.agent(AgentKind::Worker {
            command: command(Runtime::Custom, Some("sh"), &[path.to_str().unwrap()]),
            concurrency: 1,
        })
    };
    for _ in 0..3 {
        let error = run().go().await.unwrap_err();
        assert_eq!(error.kind, AgentErrorKind::NotStarted);
        assert!(
            error
                .message
                .contains("exited with code 1 before it was ready")
                && error.message.contains("torch"),
            "{}",
            error.message
        );
    }
    let error = run().go().await.unwrap_err();
    assert!(
        error.message.contains("crashed 3 times in a row"),
        "{}",
        error.message
    );
    let starts = || {
        std::fs::read_to_string(place.path("home/starts"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(starts(), 3, "it was not started for the last task");
    // After the pause it gets another chance.
    tokio::time::timeout(PATIENCE, async {
        while run().go().await.unwrap_err().message.contains("in a row") {}
    })
    .await
    .expect("the pause ends");
    assert!(starts() > 3);
    place.close().await;
}

#[tokio::test]
async fn a_worker_that_says_nothing_is_ended() {
    let place = Place::with(|options| options.worker.ready_timeout = Duration::from_millis(200));
    let path = place.file("silent.sh", "exec sleep 600\n");
    let run = place.agent(AgentKind::Worker {
        command: command(Runtime::Custom, Some("sh"), &[path.to_str().unwrap()]),
        concurrency: 1,
    });
    let error = run.go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::Protocol);
    assert!(
        error.message.contains("did not say ready within 200 ms"),
        "{}",
        error.message
    );
    place.close().await;
}

#[tokio::test]
async fn another_version_is_refused() {
    let place = Place::new();
    let path = place.file(
        "new.sh",
        "echo '{\"type\":\"ready\",\"protocol\":2}'\nexec cat >/dev/null\n",
    );
    let run = place.agent(AgentKind::Worker {
        command: command(Runtime::Custom, Some("sh"), &[path.to_str().unwrap()]),
        concurrency: 1,
    });
    let error = run.go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::Protocol);
    assert!(
        error.message.contains("speaks protocol 2"),
        "{}",
        error.message
    );
    place.close().await;
}

#[tokio::test]
async fn a_missing_worker_is_named() {
    let place = Place::new();
    let run = place.agent(AgentKind::Worker {
        command: command(Runtime::Custom, Some("no-such-worker"), &[]),
        concurrency: 1,
    });
    let error = run.go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::NotStarted);
    assert!(error.message.contains("not found on PATH"));
    place.close().await;
}

#[tokio::test]
async fn shutdown_cancels_what_is_in_flight() {
    let place = Place::with(|options| options.worker.shutdown_grace = Duration::from_millis(200));
    place.file("worker.py", WORKER);
    let run = task(&place, 1, r#"{"do": "hang"}"#);
    let (outcome, ()) = tokio::join!(run.go(), async {
        until("it hangs", || run.log.has("hanging")).await;
        place.runners.shutdown().await;
    });
    assert_eq!(outcome.unwrap_err().kind, AgentErrorKind::Canceled);
    place.close().await;
}
