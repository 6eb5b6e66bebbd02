//! A1, B2, B3, B8, B9, B12, C1, C3: the queues over the stack's Realtime and Data API, as Supabase clients use them.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::BoxStream};
use rowcall_backend::queue::{
    Broadcast, Job, JobError, QueueBackend, QueueSignals, QueueSpec, SignalOptions, Worker,
    presence::{PresenceBook, Status},
};
use rowcall_core::{Clock as _, Signal, ports::SignalSource as _};
use rowcall_realtime::{
    channel::{Cause, ChannelSpec, Event},
    client::{Client, Config, Subscription},
};
use rowcall_stack::{
    auth::Keys,
    bootstrap,
    realtime::{Limits, Slot},
    stack::{RealtimeSettings, Stack, StackConfig, loopback},
    testing::TestDb,
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{PATIENCE, SOON, backend, claim, database, name, store};
use crate::supabase::project::{RandomIds, SystemClock};

/// Fallbacks so rare that a test which needs them fails.
pub(super) const RARE: SignalOptions = SignalOptions {
    listen: true,
    idle: Duration::from_mins(10),
    poll: Duration::from_mins(10),
    gate: Duration::from_millis(100),
    jitter: 0.0,
};

/// A project with queues.
pub(super) struct Project {
    pub(super) stack: Stack,
    pub(super) keys: Keys,
    pub(super) db: TestDb,
}

impl Project {
    pub(super) async fn start() -> Self {
        Self::start_with("1.5.1", "", |_| {}).await
    }

    /// A project with this pgmq, changed by a statement, and a stack that is changed before it starts.
    pub(super) async fn start_with(
        version: &'static str,
        sql: &str,
        change: impl FnOnce(&mut StackConfig),
    ) -> Self {
        let db = database(version).await;
        let client = db.connect().await;
        bootstrap::apply(&client).await.expect("the roles are made");
        client
            .batch_execute(include_str!("../../../sql/queue/public_grants.sql"))
            .await
            .unwrap();
        client.batch_execute(sql).await.unwrap();
        let keys = Keys::generate(SystemClock.now());
        let mut config = StackConfig::new(db.url(), keys.clone(), Arc::new(SystemClock));
        config.bind = loopback(0);
        config.realtime = Some(RealtimeSettings {
            ids: Arc::new(RandomIds),
            limits: Limits::default(),
            slot: Some(Slot::Temporary),
            private_only: false,
        });
        change(&mut config);
        let stack = Stack::start(config).await.expect("the stack starts");
        Self { stack, keys, db }
    }

    /// A Realtime client whose driver runs for the rest of the test.
    pub(super) fn realtime(&self) -> Client {
        self.realtime_as(self.keys.service_role_key())
    }

    fn realtime_as(&self, key: &str) -> Client {
        let config = Config::new(self.stack.url(), key).expect("a usable URL");
        let (client, driver) = Client::new(config);
        tokio::spawn(driver.run());
        client
    }

    /// A queue that broadcasts, and somebody who waits for it.
    async fn waiting(
        &self,
        queue: &str,
        broadcast: &Broadcast,
    ) -> (QueueBackend, QueueSignals, BoxStream<'static, Signal>) {
        let backend = backend(&self.db, [QueueSpec::new(name(queue)).pause(None)]).await;
        store(&self.db)
            .enable_broadcast(&name(queue), broadcast)
            .await
            .unwrap();
        let source =
            QueueSignals::realtime(backend.clone(), RARE, self.realtime(), broadcast.clone());
        let mut signals = source.signals();
        assert_eq!(next(&mut signals).await, Signal::Up);
        (backend, source, signals)
    }

    /// Calls a function through the Data API, as supabase-js does.
    pub(super) async fn rpc(
        &self,
        function: &str,
        body: serde_json::Value,
        key: &str,
    ) -> (u16, serde_json::Value) {
        rowcall_realtime::client::install_tls_provider();
        let answer = reqwest::Client::builder()
            .build()
            .unwrap()
            .post(format!("{}/rest/v1/rpc/{function}", self.stack.url()))
            .header("content-profile", "pgmq_public")
            .header("apikey", key)
            .bearer_auth(key)
            .json(&body)
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

pub(super) async fn next(signals: &mut BoxStream<'static, Signal>) -> Signal {
    timeout(PATIENCE, signals.next())
        .await
        .expect("a signal in time")
        .expect("it goes on")
}

pub(super) async fn dirty(signals: &mut BoxStream<'static, Signal>) -> String {
    loop {
        match next(signals).await {
            Signal::Dirty { table, .. } => return table.name().to_owned(),
            other => assert!(!matches!(other, Signal::Down { .. }), "{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b2_b3_c1_c3_a_send_over_the_data_api_wakes_over_realtime() {
    let project = Project::start().await;
    let broadcast = Broadcast::default();
    let (backend, _source, mut signals) = project.waiting("Incoming-Messages", &broadcast).await;
    let service = project.keys.service_role_key();
    let start = Instant::now();
    let body = json!({"queue_name": "Incoming-Messages", "message": {"a": 1}});
    assert_eq!(project.rpc("send", body, service).await, (200, json!([1])));
    assert_eq!(dirty(&mut signals).await, "q_incoming-messages");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(claim(&backend, 5).await.len(), 1);
    // B7: a delayed one, at its time.
    let start = Instant::now();
    let body = json!({"queue_name": "Incoming-Messages", "message": {}, "sleep_seconds": 2});
    project.rpc("send", body, service).await;
    while claim(&backend, 5).await.is_empty() {
        dirty(&mut signals).await;
    }
    let waited = start.elapsed();
    assert!(
        waited >= Duration::from_millis(1_990) && waited < SOON,
        "{waited:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c10_a_private_channel_hears_its_broadcasts_and_anon_cannot_forge_them() {
    let project = Project::start().await;
    let broadcast = Broadcast {
        private: true,
        ..Broadcast::default()
    };
    let (_backend, _source, mut signals) = project.waiting("secret", &broadcast).await;
    project
        .db
        .connect()
        .await
        .batch_execute("select pgmq.send('secret', '{}'::jsonb)")
        .await
        .unwrap();
    assert_eq!(dirty(&mut signals).await, "q_secret");
    // Without a policy, anon may neither listen nor send; the public channel of the same name is another one.
    let anon = project.realtime_as(project.keys.anon_key());
    let mut refused = anon
        .join(ChannelSpec::new("aimq:jobs").private())
        .await
        .unwrap();
    let event = timeout(PATIENCE, refused.next()).await.unwrap().unwrap();
    assert!(
        matches!(
            event,
            Event::Down {
                cause: Cause::Unauthorized,
                ..
            }
        ),
        "{event:?}"
    );
    let mut public = anon.join(ChannelSpec::new("other")).await.unwrap();
    assert!(matches!(
        timeout(PATIENCE, public.next()).await.unwrap(),
        Some(Event::Up)
    ));
    assert!(
        refused
            .sender()
            .broadcast("job_enqueued", &json!({"queue": "secret"}))
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b8_b9_others_see_whether_a_worker_is_busy() {
    let project = Project::start().await;
    let (_backend, source, signals) = project.waiting("jobs", &Broadcast::default()).await;
    let observer = project
        .realtime()
        .join(ChannelSpec::new("aimq:jobs").presence("watching"))
        .await
        .unwrap();
    let mut book = PresenceBook::new("w1", [name("jobs")]);
    book.begin(&name("jobs"), 5, SystemClock.now());
    source.publish(book.presence());
    let busy = seen(&observer, |meta| meta["status"] == "busy").await;
    assert_eq!(
        (&busy["worker"], &busy["queues"]),
        (&json!("w1"), &json!(["jobs"]))
    );
    assert_eq!(
        (&busy["current_job"], &busy["job_count"]),
        (&json!(5), &json!(1))
    );
    assert!(busy["current_jobs"]["5"].is_f64());
    assert_eq!(book.presence().status, Status::Busy);
    // A graceful stop leaves at once.
    drop(signals);
    let mut present = observer.present();
    timeout(
        PATIENCE,
        present.wait_for(|present| {
            present
                .values()
                .flatten()
                .all(|meta| !meta.payload.contains_key("worker"))
        }),
    )
    .await
    .expect("it leaves")
    .unwrap();
}

/// What somebody tracked, once it is as wanted.
async fn seen(
    observer: &Subscription,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let mut present = observer.present();
    let metas = |present: &rowcall_realtime::presence::Presences| -> Vec<serde_json::Value> {
        present
            .values()
            .flatten()
            .map(|meta| serde_json::Value::Object(meta.payload.clone()))
            .collect()
    };
    let found = timeout(
        PATIENCE,
        present.wait_for(|present| metas(present).iter().any(&wanted)),
    );
    let found = metas(&found.await.expect("it shows").unwrap());
    found
        .into_iter()
        .find(|meta| wanted(meta))
        .expect("it was there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_a2_the_data_api_speaks_as_supabases_does() {
    let project = Project::start().await;
    let service = project.keys.service_role_key();
    let (status, created) = project
        .rpc("create_queue", json!({"queue_name": "in-box"}), service)
        .await;
    assert_eq!(
        (status, &created["success"], &created["channel"]),
        (200, &json!(true), &json!("aimq:jobs"))
    );
    let batch =
        json!({"queue_name": "in-box", "messages": [{"n": 1}, {"n": 2}], "sleep_seconds": 0});
    assert_eq!(
        project.rpc("send_batch", batch, service).await,
        (200, json!([1, 2]))
    );
    let (status, read) = project
        .rpc(
            "read",
            json!({"queue_name": "in-box", "sleep_seconds": 30, "n": 1}),
            service,
        )
        .await;
    assert_eq!(
        (status, &read[0]["msg_id"], &read[0]["message"]),
        (200, &json!(1), &json!({"n": 1}))
    );
    let (status, popped) = project
        .rpc("pop", json!({"queue_name": "in-box"}), service)
        .await;
    assert_eq!((status, &popped[0]["msg_id"]), (200, &json!(2)));
    let one = json!({"queue_name": "in-box", "message_id": 1});
    assert_eq!(
        project.rpc("archive", one.clone(), service).await,
        (200, json!(true))
    );
    assert_eq!(
        project.rpc("delete", one, service).await,
        (200, json!(false))
    );
    let (status, missing) = project
        .rpc(
            "read",
            json!({"queue_name": "nope", "sleep_seconds": 0, "n": 1}),
            service,
        )
        .await;
    assert_eq!((status, &missing["code"]), (404, &json!("42P01")));
    let (status, unknown) = project.rpc("no_such_function", json!({}), service).await;
    assert_eq!((status, &unknown["code"]), (404, &json!("PGRST202")));
    let (status, refused) = project
        .rpc(
            "send",
            json!({"queue_name": "in-box", "message": {}}),
            project.keys.anon_key(),
        )
        .await;
    assert!((401..=403).contains(&status), "{status} {refused}");
    let (_, listed) = project.rpc("list_queues", json!({}), service).await;
    assert_eq!(listed["queues"][0]["queue_name"], "in-box");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_b8_a_typed_worker_is_woken_and_seen_over_realtime() {
    let project = Project::start().await;
    let client = project.db.connect().await;
    client
        .batch_execute("select pgmq_public.create_queue('typed')")
        .await
        .unwrap();
    let observer = project
        .realtime()
        .join(ChannelSpec::new("aimq:jobs").presence("watching"))
        .await
        .unwrap();
    let (started, mut starts) = tokio::sync::mpsc::channel(4);
    let (go, gate) = tokio::sync::watch::channel(false);
    let worker = Worker::builder()
        .queue("typed")
        .handler(move |job: Job<serde_json::Value>| {
            let (started, mut gate) = (started.clone(), gate.clone());
            async move {
                started.send(job.id).await.map_err(|_| "nobody waits")?;
                gate.wait_for(|go| *go).await.map_err(|_| "gone")?;
                Ok::<(), JobError>(())
            }
        })
        .name("typed-1")
        .signals(RARE)
        .realtime(
            project.realtime(),
            Broadcast::default(),
            Arc::new(SystemClock),
        )
        .connect(&project.db.url())
        .await
        .unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { worker.run(stopped).await });
    let idle = seen(&observer, |meta| meta["worker"] == "typed-1").await;
    assert_eq!(idle["status"], "idle");
    client
        .batch_execute("select pgmq.send('typed', '{}'::jsonb)")
        .await
        .unwrap();
    assert_eq!(timeout(PATIENCE, starts.recv()).await.unwrap(), Some(1));
    let busy = seen(&observer, |meta| meta["status"] == "busy").await;
    assert_eq!(busy["current_job"], json!(1));
    go.send_replace(true);
    seen(&observer, |meta| meta["status"] == "idle").await;
    stop.cancel();
    running.await.unwrap();
}
