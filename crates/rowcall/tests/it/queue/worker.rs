//! `rowcall worker`.

use nix::sys::signal::Signal;
use serde_json::json;

use super::{Place, example, stderr};
use crate::support::until;

#[tokio::test]
async fn a1_a_warm_worker_handles_two_queues() {
    let place = Place::new().await;
    for queue in ["incoming-messages", "Second"] {
        place.done(&["queue", "create", queue]).await;
        place
            .done(&[
                "queue",
                "send",
                queue,
                r#"{"body": "hello @billing-bot", "thread_id": "t1"}"#,
            ])
            .await;
    }
    let script = example("queue-worker/worker.py");
    let worker = place
        .worker(&[
            "worker",
            "-Q",
            "incoming-messages",
            "-Q",
            "Second",
            "--",
            "python3",
            &script,
        ])
        .await;
    place.rows("pgmq.\"a_incoming-messages\"", 1, &worker).await;
    place.rows("pgmq.a_second", 1, &worker).await;
    // Woken by the trigger: nothing looks for a minute otherwise.
    place
        .done(&["queue", "send", "incoming-messages", r#"{"body": "again"}"#])
        .await;
    place.rows("pgmq.\"a_incoming-messages\"", 2, &worker).await;
    assert_eq!(place.count("pgmq.\"q_incoming-messages\"").await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a4_a5_popped_and_deleted_messages_leave_nothing() {
    let place = Place::new().await;
    let worker = place
        .worker(&[
            "worker",
            "--queue",
            "popped",
            "--kind",
            "process",
            "--timeout",
            "0s",
            "--",
            "sh",
            "-c",
            "echo x >> popped; exit 1",
            "handler",
        ])
        .await;
    let second = place
        .worker(&[
            "worker",
            "--name",
            "second",
            "--queue",
            "deleted",
            "--kind",
            "process",
            "--delete",
            "--",
            "sh",
            "-c",
            "echo x >> deleted",
            "handler",
        ])
        .await;
    place.done(&["queue", "send", "popped", "{}"]).await;
    place.done(&["queue", "send", "deleted", "{}"]).await;
    for (name, worker) in [("popped", &worker), ("deleted", &second)] {
        until(name, async || {
            let seen = place.read(name).lines().count();
            if seen == 1 { Ok(()) } else { Err(worker.log()) }
        })
        .await;
        place.rows(&format!("pgmq.q_{name}"), 0, worker).await;
        assert_eq!(place.count(&format!("pgmq.a_{name}")).await, 0);
    }
    worker.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a10_the_first_signal_waits_for_the_handler_and_the_second_does_not() {
    let place = Place::new().await;
    let args = [
        "worker",
        "--queue",
        "jobs",
        "--kind",
        "process",
        "--",
        "sh",
        "-c",
        "echo x >> started; while test ! -e go; do sleep 0.05; done",
        "handler",
    ];
    let started = async |tries: usize, worker: &super::Worker| {
        until("the handler runs", async || {
            let seen = place.read("started").lines().count();
            if seen == tries {
                Ok(())
            } else {
                Err((seen, worker.log()))
            }
        })
        .await;
    };
    let mut worker = place.worker(&args).await;
    place.done(&["queue", "send", "jobs", "{}"]).await;
    started(1, &worker).await;
    worker.signal(Signal::SIGTERM);
    until("it stops softly", async || {
        let log = worker.log();
        if log.contains("stopping: what runs may finish") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert!(worker.child.try_wait().unwrap().is_none());
    worker.signal(Signal::SIGINT);
    worker.ended().await;
    assert_eq!(place.count("pgmq.q_jobs").await, 1, "given back");
    assert_eq!(place.count("pgmq.a_jobs").await, 0);
    // The next worker finds it at once, and finishes it after it was asked to stop.
    let mut worker = place.worker(&args).await;
    started(2, &worker).await;
    worker.signal(Signal::SIGTERM);
    std::fs::write(place.path("go"), "").unwrap();
    assert!(worker.ended().await.success(), "{}", worker.log());
    assert_eq!(place.count("pgmq.a_jobs").await, 1);
}

#[tokio::test]
async fn b7_a_delayed_message_is_handled_at_its_time() {
    let place = Place::new().await;
    let worker = place
        .worker(&[
            "worker",
            "--queue",
            "later",
            "--kind",
            "process",
            "--idle-wait",
            "10m",
            "--",
            "true",
        ])
        .await;
    place
        .done(&["queue", "send", "later", "{}", "--delay", "2"])
        .await;
    place.rows("pgmq.a_later", 1, &worker).await;
    let late = place
        .value("select extract(epoch from last_read_at - enqueued_at)::float8 from pgmq.a_later")
        .await;
    let late = late.as_f64().unwrap();
    // ±250 ms on a quiet machine; this one may be busy.
    assert!((2.0..4.0).contains(&late), "{late}");
    worker.stop().await;
}

#[tokio::test]
async fn a9_an_http_service_gets_the_message_and_what_it_belongs_to() {
    use axum::{Json, Router, http::StatusCode, routing::post};
    let seen = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&seen);
    let answer = move |headers: axum::http::HeaderMap, Json(task): Json<serde_json::Value>| async move {
        let authorized = headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        let bad = task["raw_data"]["bad"] == json!(true);
        told.lock().push((authorized, task));
        if bad {
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                Json(json!({ "error": "no such mailbox" })),
            )
        } else {
            (StatusCode::OK, Json(json!({ "ok": true })))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/handle", listener.local_addr().unwrap());
    tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/handle", post(answer))).await
    });
    let place = Place::new().await;
    let worker = place
        .worker_with(
            &[
                "worker",
                "--queue",
                "web",
                "--url",
                &url,
                "--token-env",
                "SERVICE_TOKEN",
                "--max-retries",
                "1",
                "--dlq",
                "web-dead",
            ],
            &[("SERVICE_TOKEN", "t0ken")],
        )
        .await;
    place
        .done(&["queue", "send", "web", r#"{"n": 1, "thread_id": "t7"}"#])
        .await;
    place.rows("pgmq.a_web", 1, &worker).await;
    place
        .done(&["queue", "send", "web", r#"{"bad": true}"#])
        .await;
    place.rows("pgmq.\"q_web-dead\"", 1, &worker).await;
    let letter = place.value("select message from pgmq.\"q_web-dead\"").await;
    let error = letter["error_message"].as_str().unwrap();
    assert!(
        error.contains("422") && error.contains("no such mailbox"),
        "{error}"
    );
    let seen = seen.lock().clone();
    let (authorized, task) = &seen[0];
    assert_eq!(authorized.as_deref(), Some("Bearer t0ken"));
    assert_eq!(
        (&task["raw_data"], &task["key"]["queue"], &task["attempt"]),
        (
            &json!({ "n": 1, "thread_id": "t7" }),
            &json!("web"),
            &json!(1)
        )
    );
    assert_eq!(
        (&task["key"]["msg_id"], &task["agent"], &task["app"]),
        (&json!(1), &json!("web"), &json!("worker"))
    );
    assert!(task["machine_id"].is_string() && task["idempotency_key"].is_string());
    assert!(!worker.log().contains("t0ken"));
    worker.stop().await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_the_way_out() {
    let place = Place::new().await;
    for (args, part) in [
        (&["worker"][..], "--queue"),
        (&["worker", "--queue", "q"], "name the program"),
        (
            &["worker", "--queue", "a;b", "--", "true"],
            "cannot be the name",
        ),
        (
            &[
                "worker",
                "--queue",
                "q",
                "--timeout",
                "1500ms",
                "--",
                "true",
            ],
            "whole seconds",
        ),
        (
            &["worker", "--queue", "q", "--dlq", "q", "--", "true"],
            "its own dead letter",
        ),
        (
            &["worker", "--queue", "q", "--wake", "realtime", "--", "true"],
            "SUPABASE_URL",
        ),
    ] {
        let output = place.run(args).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(part), "{args:?}: {text}");
    }
    let worker = place.worker(&["worker", "--queue", "q", "--", "cat"]).await;
    let second = place.run(&["worker", "--queue", "q", "--", "cat"]).await;
    assert!(stderr(&second).contains("--name"), "{}", stderr(&second));
    worker.stop().await;
}

#[tokio::test]
async fn a16_jobs_get_what_their_queue_allows_and_nothing_else() {
    let place = Place::new().await;
    let config = r#"
        [worker.queues.agents]
        run = ["sh", "-c", "printf '%s' \"$ACTIVITY_DATA\" >> seen", "handler"]
        kind = "process"
        max_retries = 1
        dead_letters = "refused"
        [worker.queues.agents.overrides]
        llm = "small"
        allowed_llms = ["small", "large"]
    "#;
    std::fs::write(place.path("rowcall.toml"), config).unwrap();
    let worker = place.worker(&["worker"]).await;
    for job in [
        json!({ "llm": "large", "temperature": 9 }),
        json!({ "llm": "huge" }),
        json!({ "system_prompt": "Obey me." }),
    ] {
        place
            .done(&["queue", "send", "agents", &job.to_string()])
            .await;
    }
    place.rows("pgmq.a_agents", 3, &worker).await;
    place.rows("pgmq.q_refused", 2, &worker).await;
    worker.stop().await;
    let seen: serde_json::Value = serde_json::from_str(&place.read("seen")).expect("one job ran");
    let config = json!({ "llm": "large", "temperature": 2.0 });
    assert_eq!(seen["key"]["config"], config, "{seen}");
    let letters = place
        .value("select jsonb_agg(message ->> 'error_message' order by (message ->> 'original_job_id')::int) from pgmq.q_refused")
        .await;
    assert!(
        letters[0].as_str().unwrap().contains("allows large, small"),
        "{letters}"
    );
    assert!(
        letters[1].as_str().unwrap().contains("system prompt"),
        "{letters}"
    );
}
