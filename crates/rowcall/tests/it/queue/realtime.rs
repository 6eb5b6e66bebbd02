//! Workers beside a Supabase project: woken over Realtime, seen in presence, with AIMQ's variables.

use std::sync::Arc;

use rowcall::system::{RandomIds, SystemClock};
use rowcall_core::Clock as _;
use rowcall_realtime::{
    channel::ChannelSpec,
    client::{Client, Config, Subscription},
    presence::Presences,
};
use rowcall_stack::{
    auth::Keys,
    bootstrap,
    realtime::{Limits, Slot},
    stack::{RealtimeSettings, Stack, StackConfig, loopback},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Place;
use crate::support::PATIENCE;

/// A project on a place's database.
pub(super) async fn project(place: &Place) -> (Stack, Keys) {
    bootstrap::apply(&place.client).await.expect("the roles");
    let keys = Keys::generate(SystemClock.now());
    let mut config = StackConfig::new(place.db.url(), keys.clone(), Arc::new(SystemClock));
    config.bind = loopback(0);
    config.realtime = Some(RealtimeSettings {
        ids: Arc::new(RandomIds),
        limits: Limits::default(),
        slot: Some(Slot::Temporary),
        private_only: false,
    });
    (Stack::start(config).await.expect("the stack starts"), keys)
}

fn metas(present: &Presences) -> Vec<Value> {
    let all = present.values().flatten();
    all.map(|meta| Value::Object(meta.payload.clone()))
        .collect()
}

async fn seen(observer: &Subscription, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut present = observer.present();
    let found = timeout(PATIENCE, present.wait_for(|now| wanted(&metas(now))))
        .await
        .unwrap_or_else(|_| panic!("last seen: {:?}", metas(&observer.present().borrow())));
    metas(&found.expect("the channel lives"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_b2_b3_b8_b9_a_project_in_the_environment_wakes_and_shows_the_worker() {
    let place = Place::new().await;
    let (stack, keys) = project(&place).await;
    let config = Config::new(stack.url(), keys.service_role_key()).unwrap();
    let (client, driver) = Client::new(config);
    tokio::spawn(driver.run());
    let observer = client
        .join(ChannelSpec::new("my:jobs").presence("watching"))
        .await
        .unwrap();
    let env = [
        ("SUPABASE_URL", stack.url()),
        ("SUPABASE_KEY", keys.service_role_key()),
        ("SUPABASE_REALTIME_CHANNEL", "my:jobs"),
        ("SUPABASE_REALTIME_EVENT", "there"),
        ("WORKER_NAME", "w1"),
        // A poll would come too late.
        ("WORKER_IDLE_WAIT", "600.0"),
    ];
    let worker = place
        .worker_with(
            &[
                "worker",
                "--queue",
                "jobs",
                "--kind",
                "process",
                "--",
                "sh",
                "-c",
                "while test ! -e go; do sleep 0.05; done",
                "handler",
            ],
            &env,
        )
        .await;
    let idle = seen(&observer, |all| all.iter().any(|one| one["worker"] == "w1")).await;
    assert_eq!(
        idle[0],
        json!({ "worker": "w1", "queues": ["jobs"], "status": "idle", "current_jobs": {}, "job_count": 0, "current_job": null })
    );
    place.done(&["queue", "send", "jobs", "{}"]).await;
    let busy = seen(&observer, |all| {
        all.iter().any(|one| one["status"] == "busy")
    })
    .await;
    assert_eq!(
        (&busy[0]["current_job"], &busy[0]["job_count"], busy.len()),
        (&json!(1), &json!(1), 1)
    );
    std::fs::write(place.path("go"), "").unwrap();
    seen(&observer, |all| {
        all.iter().any(|one| one["status"] == "idle")
    })
    .await;
    place.rows("pgmq.a_jobs", 1, &worker).await;
    worker.stop().await;
    seen(&observer, |all| all.iter().all(|one| one["worker"] != "w1")).await;
    // One that is killed leaves as soon as its socket is gone.
    let mut worker = place
        .worker_with(&["worker", "--queue", "jobs", "--", "cat"], &env)
        .await;
    seen(&observer, |all| all.iter().any(|one| one["worker"] == "w1")).await;
    worker.signal(nix::sys::signal::Signal::SIGKILL);
    worker.ended().await;
    seen(&observer, |all| all.iter().all(|one| one["worker"] != "w1")).await;
    stack.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b11_without_the_project_messages_are_polled() {
    let place = Place::new().await;
    let env = [
        ("SUPABASE_URL", "http://127.0.0.1:1"),
        ("SUPABASE_KEY", "nobody"),
        ("WORKER_IDLE_WAIT", "0.2"),
    ];
    let worker = place
        .worker_with(
            &[
                "worker", "--queue", "jobs", "--kind", "process", "--", "true",
            ],
            &env,
        )
        .await;
    place.done(&["queue", "send", "jobs", "{}"]).await;
    place.rows("pgmq.a_jobs", 1, &worker).await;
    assert!(!worker.log().contains("nobody"));
    worker.stop().await;
}
