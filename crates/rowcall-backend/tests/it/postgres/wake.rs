//! Waking up: who is told, who is not, and what happens when the connection is lost.

use std::time::Duration;

use futures_util::{StreamExt, stream::BoxStream};
use rowcall_backend::{
    PostgresBackend,
    capture::{self, CaptureSpec},
};
use rowcall_core::{EventSet, Signal, ports::SignalSource};
use tokio::time::timeout;

use super::database::{Database, config, database};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);
/// Long enough for a notification that is on its way.
const SILENCE: Duration = Duration::from_millis(300);

async fn next(signals: &mut BoxStream<'static, Signal>) -> Signal {
    timeout(PATIENCE, signals.next())
        .await
        .expect("a signal comes")
        .expect("the stream does not end")
}

async fn silent(signals: &mut BoxStream<'static, Signal>) -> bool {
    timeout(SILENCE, signals.next()).await.is_err()
}

async fn listening() -> (Database, BoxStream<'static, Signal>) {
    let database = database().await;
    let mut signals = database.backend.signals();
    assert_eq!(next(&mut signals).await, Signal::Up);
    (database, signals)
}

fn is_dirty(signal: &Signal) -> bool {
    matches!(signal, Signal::Dirty { task: None, .. })
}

const INSERT: &str = "insert into rtx_activities (raw_data) values ('{}')";

#[tokio::test]
async fn an_idle_daemon_hears_of_work() {
    let (mut database, mut signals) = listening().await;
    database.client.batch_execute(INSERT).await.unwrap();
    assert!(is_dirty(&next(&mut signals).await));
    assert!(silent(&mut signals).await, "once");
    database
        .client
        .batch_execute("create table t (id int primary key)")
        .await
        .unwrap();
    let spec = CaptureSpec {
        table: "t".parse().unwrap(),
        events: EventSet::ALL,
        filter: Some(rowcall_core::Filter::parse("id=gt.1").unwrap()),
    };
    capture::install(&mut database.client, &spec).await.unwrap();
    database
        .client
        .batch_execute("insert into t values (1)")
        .await
        .unwrap();
    assert!(silent(&mut signals).await, "the filter decides");
    database
        .client
        .batch_execute("insert into t values (2)")
        .await
        .unwrap();
    assert!(is_dirty(&next(&mut signals).await), "captured rows count");
}

#[tokio::test]
async fn updates_by_others_count_when_they_leave_work() {
    let (database, mut signals) = listening().await;
    let client = &database.client;
    client
        .batch_execute("set rowcall.quiet = on; insert into rtx_activities (status, locked_by, locked_at) values ('claimed', 'x', now())")
        .await
        .unwrap();
    client
        .batch_execute("set rowcall.quiet = off")
        .await
        .unwrap();
    client
        .batch_execute("update rtx_activities set locked_at = now()")
        .await
        .unwrap();
    client
        .batch_execute("update rtx_activities set status = 'processing'")
        .await
        .unwrap();
    assert!(
        silent(&mut signals).await,
        "heartbeats and claims leave nothing to do"
    );
    client
        .batch_execute("update rtx_activities set status = 'failed', locked_by = null")
        .await
        .unwrap();
    assert!(is_dirty(&next(&mut signals).await));
    client
        .batch_execute("update rtx_activities set status = 'pending'")
        .await
        .unwrap();
    assert!(is_dirty(&next(&mut signals).await));
}

#[tokio::test]
async fn a_busy_daemon_is_left_alone_and_looks_afterwards() {
    let (database, mut signals) = listening().await;
    database.backend.set_busy(true).await.unwrap();
    database.client.batch_execute(INSERT).await.unwrap();
    assert!(silent(&mut signals).await, "it polls anyway");
    database.backend.set_busy(false).await.unwrap();
    assert!(
        is_dirty(&next(&mut signals).await),
        "what was written meanwhile is looked for"
    );
    assert!(silent(&mut signals).await);
    database.client.batch_execute(INSERT).await.unwrap();
    assert!(
        is_dirty(&next(&mut signals).await),
        "and the gate is open again"
    );
    database.backend.set_busy(false).await.unwrap();
    assert!(
        silent(&mut signals).await,
        "opening an open gate is nothing"
    );
}

#[tokio::test]
async fn a_gate_opens_by_itself() {
    let database = database().await;
    let mut quick = config(&database.db, "quick");
    quick.quiet_for = Duration::from_millis(400);
    let backend = PostgresBackend::connect(quick).await.unwrap();
    let mut signals = backend.signals();
    assert_eq!(next(&mut signals).await, Signal::Up);
    backend.set_busy(true).await.unwrap();
    database.client.batch_execute(INSERT).await.unwrap();
    // Nobody opens it: the daemon that closed it has forgotten, or died.
    assert!(
        is_dirty(&next(&mut signals).await),
        "the look after the time is over"
    );
    database.client.batch_execute(INSERT).await.unwrap();
    assert!(is_dirty(&next(&mut signals).await));
}

#[tokio::test]
async fn one_busy_daemon_does_not_silence_another() {
    let (database, mut signals) = listening().await;
    let other = PostgresBackend::connect(config(&database.db, "other"))
        .await
        .unwrap();
    let mut theirs = other.signals();
    assert_eq!(next(&mut theirs).await, Signal::Up);
    database.backend.set_busy(true).await.unwrap();
    database.client.batch_execute(INSERT).await.unwrap();
    assert!(is_dirty(&next(&mut theirs).await));
    assert!(
        is_dirty(&next(&mut signals).await),
        "a notification reaches whoever listens"
    );
    other.set_busy(true).await.unwrap();
    database.client.batch_execute(INSERT).await.unwrap();
    assert!(silent(&mut theirs).await);
}

#[tokio::test]
async fn nobody_is_notified_where_nobody_listens() {
    let database = database().await;
    let url = database.db.socket_url();
    let (listener, mut connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) =
            std::future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let tokio_postgres::AsyncMessage::Notification(one) = message {
                heard.send(one.payload().to_owned()).unwrap();
            }
        }
    });
    listener.batch_execute("listen rowcall_wake").await.unwrap();
    database.client.batch_execute(INSERT).await.unwrap();
    database
        .client
        .batch_execute("insert into rowcall.listeners (name, seen_at) values ('dead for long', now() - interval '2 days')")
        .await
        .unwrap();
    database.client.batch_execute(INSERT).await.unwrap();
    let ours = "notify rowcall_wake, 'ours'";
    database.client.batch_execute(ours).await.unwrap();
    let first = timeout(PATIENCE, hearing.recv()).await.unwrap();
    assert_eq!(first.as_deref(), Some("ours"), "and none before it");
    let mut signals = database.backend.signals();
    assert_eq!(next(&mut signals).await, Signal::Up);
    let known = "select count(*) from rowcall.listeners where name = 'test'";
    assert_eq!(
        database
            .client
            .query_one(known, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        1
    );
    database.backend.close().await;
    assert_eq!(
        database
            .client
            .query_one(known, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        0,
        "it says goodbye"
    );
}

#[tokio::test]
async fn a_lost_connection_is_told_and_mended() {
    let (database, mut signals) = listening().await;
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where query like '%rowcall.listen(%' \
                and pid <> pg_backend_pid() and datname = current_database()";
    database.client.batch_execute(kill).await.unwrap();
    assert!(matches!(next(&mut signals).await, Signal::Down { .. }));
    database.client.batch_execute(INSERT).await.unwrap();
    assert_eq!(
        next(&mut signals).await,
        Signal::Up,
        "and whoever hears it looks for what was missed"
    );
    database.client.batch_execute(INSERT).await.unwrap();
    assert!(is_dirty(&next(&mut signals).await));
}

#[tokio::test]
async fn a_storm_closes_the_gate() {
    let (database, mut signals) = listening().await;
    let closed = "select quiet_until > now() from rowcall.listeners where name = 'test'";
    let many = format!("begin; {INSERT}; commit;").repeat(64);
    let storm = async {
        loop {
            // Many transactions in one message: a busy machine sees them come at once, too.
            database.client.batch_execute(&many).await.unwrap();
            if database
                .client
                .query_one(closed, &[])
                .await
                .unwrap()
                .get::<_, bool>(0)
            {
                break;
            }
        }
    };
    timeout(PATIENCE, storm)
        .await
        .expect("many notifications at once close the gate");
    while !silent(&mut signals).await {}
    database.client.batch_execute(INSERT).await.unwrap();
    assert!(is_dirty(&next(&mut signals).await), "it is open again");
}

#[tokio::test]
async fn statements_have_a_limit_and_survive_a_restart_of_their_connection() {
    use rowcall_backend::{NewTask, conformance::Fixture};
    use rowcall_core::{ErrorClass, Payload, ports::Coordinator};

    let database = database().await;
    let mut hasty = config(&database.db, "hasty");
    hasty.statement_timeout = Duration::from_secs(2);
    hasty.connections = 1;
    let backend = PostgresBackend::connect(hasty).await.unwrap();
    let task = database
        .insert(NewTask::direct(Payload::empty_object()))
        .await;
    database
        .client
        .batch_execute("begin; lock table rtx_activities")
        .await
        .unwrap();
    let error = backend.inspect(&task).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Retryable, "{error}");
    assert!(error.message.contains("time-out"), "{error}");
    database.client.batch_execute("rollback").await.unwrap();
    assert!(backend.inspect(&task).await.unwrap().is_some());
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    database.client.batch_execute(kill).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(backend.inspect(&task).await);
    }
    // The first may still meet the dead connection; that is retryable, and the next opens a new one.
    assert!(answers.iter().all(|one| {
        one.as_ref()
            .err()
            .is_none_or(|error| error.class == ErrorClass::Retryable)
    }));
    assert!(answers.last().unwrap().is_ok());
}
