//! One listening connection: notifications become marks on queues, which nothing has to keep up with.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_postgres::{AsyncMessage, Client, Row};

use super::wake::Wake;
use crate::queue::{
    backend::QueueBackend,
    depth::LISTENER,
    error::{QueueError, explain},
    view::Due,
};

/// The channel of the wake-up triggers.
pub(super) const CHANNEL: &str = "rowcall_queue";
/// A look that takes longer is a broken connection.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// How long a probe through another connection may take.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// Arms the gates of queues; rows that senders hold locked are theirs: they notify when they commit.
const ARM: &str = "update rowcall_queue.waiting w set armed = true where w.ctid = any (array(\
     select l.ctid from rowcall_queue.waiting l where l.queue = any ($1::text[]) and not l.armed for update skip locked))";

/// What arrived and was not taken yet.
#[derive(Debug, Default)]
struct Marks {
    queues: BTreeSet<usize>,
    /// Notifications of delayed messages, whose queues need a look but no claim.
    later: bool,
    probes: u64,
    closed: Option<String>,
}

/// What a wake-up brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Woken {
    /// Queues with messages that are visible now.
    pub(super) queues: Vec<usize>,
    /// Why the connection is gone, when it is.
    pub(super) closed: Option<String>,
}

/// A connection that listens.
pub(super) struct Listener {
    client: Client,
    marks: Arc<Mutex<Marks>>,
    arrived: Arc<Notify>,
    driver: JoinHandle<()>,
    /// The queues it watches, and their names as the gate knows them.
    queues: Vec<usize>,
    names: Vec<String>,
    due: String,
    gates: bool,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Listener {
    /// Connects and listens for all queues of a backend that exist.
    pub(super) async fn open(
        backend: &QueueBackend,
        worker: Option<&str>,
    ) -> Result<Self, QueueError> {
        let (client, connection) = backend.inner.place.database("listening")?.connect().await?;
        let marks = Arc::new(Mutex::new(Marks::default()));
        let arrived = Arc::new(Notify::new());
        let own = Arc::new(AtomicI32::new(0));
        let driver = drive(
            connection,
            backend.clone(),
            Arc::clone(&own),
            Arc::clone(&marks),
            Arc::clone(&arrived),
        );
        let driver = tokio::spawn(driver);
        let mut listener = Self {
            client,
            marks,
            arrived,
            driver,
            queues: Vec::new(),
            names: Vec::new(),
            due: String::new(),
            gates: false,
        };
        let listen = format!("listen {CHANNEL}");
        let doing = QueueError::doing("listening");
        listener
            .client
            .batch_execute(&listen)
            .await
            .map_err(&doing)?;
        let row = listener
            .client
            .query_one("select pg_backend_pid()", &[])
            .await
            .map_err(&doing)?;
        own.store(row.get(0), Ordering::Relaxed);
        if let Some(worker) = worker {
            // People see who listens.
            let name = format!("{LISTENER}{worker}");
            let sql = "select set_config('application_name', $1, false)";
            listener.client.query(sql, &[&name]).await.map_err(&doing)?;
        }
        listener.watch(backend).await?;
        Ok(listener)
    }

    /// Chooses the queues to watch, and makes sure their gates have rows.
    async fn watch(&mut self, backend: &QueueBackend) -> Result<(), QueueError> {
        let doing = QueueError::doing("preparing wake-ups");
        backend.reload_if_incomplete().await?;
        let layout = backend.layout();
        self.queues = (0..backend.specs().len())
            .filter(|queue| layout.tables[*queue].queue)
            .collect();
        self.due = backend.due_sql(&self.queues);
        let wanted: Vec<String> = self
            .queues
            .iter()
            .map(|queue| backend.specs()[*queue].name.table().name().to_owned())
            .collect();
        // The trigger's argument is the name the gate goes by; it may differ from ours in case.
        let sql = include_str!("../../../sql/queue/triggers.sql");
        let rows = self.client.query(sql, &[&wanted]).await.map_err(&doing)?;
        self.names = rows.iter().filter_map(|row| row.get("gate")).collect();
        self.gates = !wanted.is_empty() && self.names.len() == wanted.len();
        Ok(())
    }

    /// Whether every queue has its trigger, so that wake-ups come at all.
    pub(super) fn gates(&self) -> bool {
        self.gates
    }

    /// Whether notifications of other connections arrive here: through some poolers they do not.
    pub(super) async fn probe(&self, backend: &QueueBackend) -> Result<bool, QueueError> {
        let before = self.marks.lock().probes;
        let client = backend.inner.place.database("listening")?.get().await?;
        client
            .execute("select pg_notify($1::text, 'probe')", &[&CHANNEL])
            .await
            .map_err(QueueError::doing("testing wake-ups"))?;
        let arrives = async {
            while self.marks.lock().probes == before {
                self.arrived.notified().await;
            }
        };
        let came = tokio::time::timeout(PROBE_LIMIT, arrives).await.is_ok();
        // The probe may have eaten the permit of a real wake-up.
        self.arrived.notify_one();
        Ok(came)
    }

    /// Waits for notifications, or the end of the connection. Cancel safe: marks stay until taken.
    pub(super) async fn woken(&self) -> Woken {
        loop {
            {
                let mut marks = self.marks.lock();
                if marks.closed.is_some() || marks.later || !marks.queues.is_empty() {
                    marks.later = false;
                    return Woken {
                        queues: std::mem::take(&mut marks.queues).into_iter().collect(),
                        closed: marks.closed.clone(),
                    };
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Arms the gates if asked to, then looks what is due. Also says `(xmin, xmax, armed)` of the moment of the look.
    pub(super) async fn look(
        &self,
        backend: &QueueBackend,
        arm: bool,
    ) -> Result<(Vec<Due>, u64, u64, bool), QueueError> {
        if self.queues.is_empty() {
            return Ok((Vec::new(), 0, 0, true));
        }
        let look = async {
            if arm && self.gates {
                let statement = self.client.prepare(ARM).await?;
                self.client.execute(&statement, &[&self.names]).await?;
            }
            let gates = if self.gates {
                "(select coalesce(bool_and(w.armed), true) from rowcall_queue.waiting w where w.queue = any ($1::text[]))"
            } else {
                "($1::text[] is not null)"
            };
            let sql = format!(
                "select d.*, pg_snapshot_xmin(pg_current_snapshot())::text, pg_snapshot_xmax(pg_current_snapshot())::text, \
                 {gates} from ({}) d(queue, ready, seconds)",
                self.due
            );
            self.client.query(&sql, &[&self.names]).await
        };
        let rows = tokio::time::timeout(LOOK_LIMIT, look)
            .await
            .map_err(|_| QueueError::Silent)?
            .map_err(QueueError::doing("looking what is due"))?;
        let transaction =
            |row: &Row, column: usize| row.get::<_, String>(column).parse().unwrap_or(0);
        let first = rows.first();
        Ok((
            rows.iter().map(|row| backend.read_due(row)).collect(),
            first.map_or(0, |row| transaction(row, 3)),
            first.map_or(0, |row| transaction(row, 4)),
            first.is_none_or(|row| row.get(5)),
        ))
    }

    /// Tells other workers about a queue.
    pub(super) async fn tell(&self, payload: &str) -> Result<(), QueueError> {
        self.client
            .execute(
                "select pg_notify($1::text, $2::text)",
                &[&CHANNEL, &payload],
            )
            .await
            .map_err(QueueError::doing("telling other workers"))?;
        Ok(())
    }
}

/// Drives the connection and turns its notifications into marks. Foreign queues leave none.
async fn drive(
    mut connection: rowcall_postgres::Connection,
    backend: QueueBackend,
    own: Arc<AtomicI32>,
    marks: Arc<Mutex<Marks>>,
    arrived: Arc<Notify>,
) {
    let reason = loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(notification)))
                if notification.channel() == CHANNEL =>
            {
                // What this connection tells others is no news here.
                let echo = notification.process_id() == own.load(Ordering::Relaxed);
                if echo || !mark(notification.payload(), &backend, &mut marks.lock()) {
                    continue;
                }
                arrived.notify_one();
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => break explain(&error),
            None => break "the server closed the connection".to_owned(),
        }
    };
    marks.lock().closed = Some(reason);
    arrived.notify_one();
}

/// Whether a payload concerns one of our queues.
fn mark(payload: &str, backend: &QueueBackend, marks: &mut Marks) -> bool {
    if payload == "probe" {
        marks.probes += 1;
        return true;
    }
    let Some(wake) = Wake::parse(payload) else {
        return false;
    };
    let Some(queue) = backend.queue_of_wake(&wake) else {
        return false;
    };
    if wake.visible_in().is_zero() {
        marks.queues.insert(queue);
    } else {
        marks.later = true;
    }
    true
}
