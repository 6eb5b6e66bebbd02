//! `rowcall worker`: leases that are renewed, attempts that fail, workers that are killed.

use nix::sys::signal::Signal;
use serde_json::json;

use super::Place;
use crate::support::until;

#[tokio::test]
async fn a6_a14_failures_end_among_the_dead_letters() {
    let place = Place::new().await;
    let worker = place
        .worker(&[
            "worker",
            "--queue",
            "jobs",
            "--kind",
            "process",
            "--max-retries",
            "2",
            "--dead-letters",
            "jobs-dead",
            "--retry-after",
            "0s",
            "--idle-wait",
            "100ms",
            "--",
            "sh",
            "-c",
            "echo x >> tries; echo broken >&2; exit 3",
            "handler",
        ])
        .await;
    // No object, as poison goes.
    place.done(&["queue", "send", "jobs", "[1]"]).await;
    place.rows("pgmq.\"q_jobs-dead\"", 1, &worker).await;
    assert_eq!(place.read("tries").lines().count(), 2, "{}", worker.log());
    let letter = place
        .value("select message from pgmq.\"q_jobs-dead\"")
        .await;
    assert_eq!(
        (
            &letter["original_queue"],
            &letter["attempt_count"],
            &letter["job_data"]
        ),
        (&json!("jobs"), &json!(2), &json!([1])),
        "{letter}"
    );
    let mut keys: Vec<_> = letter.as_object().unwrap().keys().cloned().collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "attempt_count",
            "error_message",
            "error_type",
            "job_data",
            "original_job_id",
            "original_queue",
            "timestamp"
        ]
    );
    assert_eq!(place.count("pgmq.a_jobs").await, 1);
    worker.stop().await;
}

#[tokio::test]
async fn a6_a_worker_that_is_killed_again_and_again_gives_up() {
    let place = Place::new().await;
    let args = [
        "worker",
        "--queue",
        "jobs",
        "--kind",
        "process",
        "--timeout",
        "1s",
        "--max-retries",
        "2",
        "--dlq",
        "dead",
        "--idle-wait",
        "100ms",
        "--",
        "sh",
        "-c",
        "echo x >> tries; exec sleep 600",
        "handler",
    ];
    place.done(&["queue", "create", "jobs"]).await;
    place.done(&["queue", "send", "jobs", "{}"]).await;
    for tries in 1..=2 {
        let mut worker = place.worker(&args).await;
        until("the handler runs", async || {
            let seen = place.read("tries").lines().count();
            if seen == tries {
                Ok(())
            } else {
                Err((seen, worker.log()))
            }
        })
        .await;
        worker.signal(Signal::SIGKILL);
        worker.ended().await;
    }
    let worker = place.worker(&args).await;
    place.rows("pgmq.q_dead", 1, &worker).await;
    assert_eq!(place.read("tries").lines().count(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn a3_the_lease_is_renewed_while_the_handler_runs() {
    let place = Place::new().await;
    let worker = place
        .worker(&[
            "worker",
            "--queue",
            "slow",
            "--kind",
            "process",
            "--timeout",
            "1s",
            "--",
            "sh",
            "-c",
            "echo x >> tries; sleep 3",
            "handler",
        ])
        .await;
    place.done(&["queue", "send", "slow", "{}"]).await;
    place.rows("pgmq.a_slow", 1, &worker).await;
    assert_eq!(place.read("tries").lines().count(), 1, "{}", worker.log());
    assert_eq!(
        place.value("select read_ct from pgmq.a_slow").await,
        json!(1)
    );
    worker.stop().await;
}
