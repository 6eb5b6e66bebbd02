//! The queue source: what a worker needs to claim and settle messages.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rowcall_core::{EventKind, LeasePolicy, TableName, TaskId, TaskRef, route::Selector};
use tokio::sync::Notify;
use tokio_postgres::{Row, error::SqlState};

use super::{
    database::Database,
    error::QueueError,
    in_flight::InFlight,
    layout::Layout,
    meters::Meters,
    name::QueueName,
    pause::Pauses,
    place::Place,
    project::QueueProject,
    returns::Returns,
    signals::Wake,
    spec::QueueSpec,
    statement::Statement,
    step::{Answer, Kind, Read, Step},
    store::{QueueStore, payload},
};

/// Queues in one statement. A worker with more reads them in groups, the most important first.
pub(super) const MAX_QUEUES_AT_ONCE: usize = 8;

/// Wake-ups are not believed to lie further ahead than this.
const MAX_RETURN: Duration = Duration::from_hours(24);

/// How the queue source connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// Connections for statements; one more is used to listen.
    pub connections: usize,
    /// Makes queues and dead letter queues that are not there. Otherwise a missing queue counts as empty, and messages that
    /// should go to a missing dead letter queue are tried again.
    pub create_missing: bool,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            connections: 4,
            create_missing: false,
        }
    }
}

/// Some queues of a database as one source of tasks. Cheap to clone.
///
/// A message is the task `pgmq.q_<queue>` / `<msg_id>`. Its lease is the visibility time-out, and the fence is the number of
/// reads: whoever reads the message again, with rowcall, AIMQ or plain pgmq, takes the lease away.
#[derive(Clone, Debug)]
pub struct QueueBackend {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) place: Place,
    pub(super) specs: Vec<QueueSpec>,
    /// The tables of the specs, in their order: how tasks are named.
    tables: Vec<TableName>,
    by_table: HashMap<TableName, usize>,
    pub(super) meters: Vec<Meters>,
    layout: RwLock<Arc<Layout>>,
    pub(super) in_flight: Mutex<InFlight>,
    pub(super) pauses: Mutex<Pauses>,
    /// Counts claims, so that queues of equal priority take turns.
    turn: AtomicUsize,
    create_missing: bool,
    /// Queues whose messages we made visible at another time.
    changed: Mutex<BTreeSet<usize>>,
    change: Notify,
    /// When messages of ours come back, where the place cannot tell.
    pub(super) returns: Mutex<Returns>,
}

impl QueueBackend {
    /// Connects, and looks which queues are there.
    ///
    /// # Errors
    ///
    /// When the database is out of reach, a queue is configured twice, or an order is asked for that its pgmq does not have.
    /// A missing queue is none: it counts as empty until it is there.
    pub async fn connect(
        url: &str,
        specs: Vec<QueueSpec>,
        options: QueueOptions,
    ) -> Result<Self, QueueError> {
        Self::open(Database::new(url, options.connections)?, specs, options).await
    }

    /// The same on a database that is already there.
    pub async fn open(
        database: Database,
        specs: Vec<QueueSpec>,
        options: QueueOptions,
    ) -> Result<Self, QueueError> {
        Self::at(Place::Database(database), specs, options).await
    }

    /// The same in a Supabase project, with nothing but its URL and a key.
    ///
    /// # Errors
    ///
    /// When the project is out of reach, refuses the key or does not offer queues; otherwise as [`QueueBackend::connect`].
    pub async fn project(
        project: QueueProject,
        specs: Vec<QueueSpec>,
        options: QueueOptions,
    ) -> Result<Self, QueueError> {
        Self::at(Place::Project(project), specs, options).await
    }

    pub(super) async fn at(
        place: Place,
        specs: Vec<QueueSpec>,
        options: QueueOptions,
    ) -> Result<Self, QueueError> {
        let mut by_table = HashMap::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            if by_table.insert(spec.name.table(), index).is_some() {
                return Err(QueueError::Twice(spec.name.clone()));
            }
        }
        let inner = Inner {
            place,
            tables: specs.iter().map(|spec| spec.name.table()).collect(),
            meters: specs.iter().map(|spec| Meters::of(&spec.name)).collect(),
            specs,
            by_table,
            layout: RwLock::default(),
            in_flight: Mutex::default(),
            pauses: Mutex::default(),
            turn: AtomicUsize::new(0),
            create_missing: options.create_missing,
            changed: Mutex::default(),
            change: Notify::new(),
            returns: Mutex::default(),
        };
        let backend = Self {
            inner: Arc::new(inner),
        };
        backend.reload().await?;
        for (spec, tables) in backend.specs().iter().zip(&backend.layout().tables) {
            if !tables.queue {
                tracing::warn!(queue = %spec.name, "the queue does not exist; it counts as empty until it does");
            }
        }
        Ok(backend)
    }

    /// The queues, as configured.
    pub fn specs(&self) -> &[QueueSpec] {
        &self.inner.specs
    }

    /// Those of them that were there when we last looked.
    pub fn existing(&self) -> Vec<QueueName> {
        let layout = self.layout();
        let there = self
            .specs()
            .iter()
            .zip(&layout.tables)
            .filter(|(_, tables)| tables.queue);
        there.map(|(spec, _)| spec.name.clone()).collect()
    }

    /// The administration of the same database's queues.
    pub fn store(&self) -> QueueStore {
        QueueStore::at(self.inner.place.clone())
    }

    /// The lease that fits all of these queues: short enough that none of them runs out between two renewals.
    pub fn lease_policy(&self) -> LeasePolicy {
        let shortest = self
            .specs()
            .iter()
            .map(QueueSpec::lease)
            .min_by_key(|lease| lease.ttl);
        shortest.unwrap_or_default()
    }

    /// Selects every message of every queue: for workers without routes of their own.
    pub fn selectors(&self) -> Arc<[Selector]> {
        let all = self.specs().iter().map(|spec| Selector {
            table: spec.name.table(),
            events: [EventKind::Insert].into_iter().collect(),
            filter: None,
        });
        all.collect()
    }

    /// The queue that a task belongs to.
    pub fn queue_of(&self, table: &TableName) -> Option<&QueueName> {
        self.index(table).map(|index| &self.inner.specs[index].name)
    }

    /// The queue that a wake-up is about, if it is one of ours.
    pub(super) fn queue_of_wake(&self, wake: &Wake) -> Option<usize> {
        let index = |name| self.index(&QueueName::new(name).ok()?.table());
        wake.names().find_map(index)
    }

    /// Notes that messages become visible at another time than a look may have seen.
    pub(super) fn note_change(&self, queue: usize) {
        self.inner.changed.lock().insert(queue);
        self.inner.change.notify_one();
    }

    /// Waits for such notes and takes them. Cancel safe.
    pub(super) async fn changed(&self) -> BTreeSet<usize> {
        loop {
            let changed = std::mem::take(&mut *self.inner.changed.lock());
            if !changed.is_empty() {
                return changed;
            }
            self.inner.change.notified().await;
        }
    }

    /// Notes that a message becomes visible after a while, for places that cannot be asked.
    pub(super) fn note_return(&self, queue: usize, after: Duration) {
        if !self.inner.place.renews() {
            let at = tokio::time::Instant::now() + after.min(MAX_RETURN);
            self.inner.returns.lock().note(queue, at);
        }
    }

    /// Whether the queues are in a database that we are connected to: one to listen to, and to measure.
    pub fn in_database(&self) -> bool {
        matches!(self.inner.place, Place::Database(_))
    }

    pub(super) fn index(&self, table: &TableName) -> Option<usize> {
        self.inner.by_table.get(table).copied()
    }

    /// The handler of a claimed message starts: counts how long the message waited.
    pub fn started(&self, task: &TaskRef) {
        let Some((queue, id)) = self.locate(task) else {
            return;
        };
        let waited = self.inner.in_flight.lock().started(queue, id);
        if let Some(waited) = waited {
            self.inner.meters[queue].waited.record(waited);
        }
    }

    /// Which queue and which message a task is.
    pub(super) fn locate(&self, task: &TaskRef) -> Option<(usize, i64)> {
        let TaskId::Key(id) = &task.id else {
            return None;
        };
        Some((self.index(&task.table)?, id.parse().ok()?))
    }

    pub(super) fn task_ref(&self, queue: usize, id: i64) -> TaskRef {
        TaskRef {
            table: self.inner.tables[queue].clone(),
            id: TaskId::Key(id.to_string().into()),
        }
    }

    pub(super) fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.inner.layout.read())
    }

    /// Looks again which queues are there, and makes the missing ones if configured so.
    pub(super) async fn reload(&self) -> Result<(), QueueError> {
        let inner = &*self.inner;
        let mut layout = inner.place.layout(&inner.specs).await?;
        if inner.create_missing && layout.incomplete(&inner.specs) {
            for (spec, tables) in inner.specs.iter().zip(&layout.tables) {
                if !tables.queue {
                    self.create(&spec.name).await?;
                }
                if let (Some(letters), false) = (&spec.dead_letters, tables.dead_letters) {
                    self.create(letters).await?;
                }
            }
            layout = inner.place.layout(&inner.specs).await?;
        }
        *inner.layout.write() = Arc::new(layout);
        Ok(())
    }

    /// Makes a queue. Not every project lets us, and then somebody else has to.
    async fn create(&self, queue: &QueueName) -> Result<(), QueueError> {
        let made = self.store().create(queue, super::store::Kind::Logged).await;
        match (made, &self.inner.place) {
            (Err(error), Place::Project(_)) => {
                tracing::warn!(%queue, %error, "the queue could not be made");
                Ok(())
            }
            (made, _) => made,
        }
    }

    /// Looks again if something was missing last time.
    pub(super) async fn reload_if_incomplete(&self) -> Result<(), QueueError> {
        if self.layout().incomplete(self.specs()) {
            self.reload().await?;
        }
        Ok(())
    }

    /// The queues that selectors name and that exist, the most important first; those of equal priority in turn.
    pub(super) fn queues(&self, selectors: &[Selector]) -> Result<Vec<usize>, QueueError> {
        let layout = self.layout();
        let mut queues = Vec::new();
        for selector in selectors {
            let Some(index) = self.index(&selector.table) else {
                continue;
            };
            if selector.filter.is_some() {
                return Err(QueueError::Filtered(selector.table.clone()));
            }
            if layout.tables[index].queue && !queues.contains(&index) {
                queues.push(index);
            }
        }
        queues.sort_by_key(|index| std::cmp::Reverse(self.specs()[*index].priority));
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        for equals in
            queues.chunk_by_mut(|a, b| self.specs()[*a].priority == self.specs()[*b].priority)
        {
            let first = turn % equals.len();
            equals.rotate_left(first);
        }
        Ok(queues)
    }

    /// How many more messages of a queue this process may hold.
    pub(super) fn room(&self, queue: usize, limit: i64) -> i64 {
        if !self.pause_left(queue).is_zero() {
            return 0;
        }
        let Some(max) = self.specs()[queue].concurrency else {
            return limit;
        };
        let held = self
            .inner
            .in_flight
            .lock()
            .count(queue, tokio::time::Instant::now());
        limit.min(i64::from(max.saturating_sub(held)))
    }

    /// How long a queue is not read because its messages fail.
    pub(super) fn pause_left(&self, queue: usize) -> Duration {
        self.inner
            .pauses
            .lock()
            .left(queue, tokio::time::Instant::now())
    }

    /// Until when a claim or a renewal of now is good.
    pub(super) fn lease_end(&self, queue: usize) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.specs()[queue].lease().ttl
    }

    /// Carries out steps.
    pub(super) async fn run(
        &self,
        doing: &'static str,
        mut steps: Vec<Step>,
    ) -> Result<Vec<Answer>, QueueError> {
        steps.retain(|step| !step.is_empty());
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        match &self.inner.place {
            Place::Database(database) => self.run_statement(database, doing, &steps).await,
            Place::Project(project) if project.has_ours() => {
                let layout = self.layout();
                project.work(doing, &steps, self.specs(), &layout).await
            }
            Place::Project(project) => self.run_stock(project, &steps).await,
        }
    }

    /// Whether leases are renewed: otherwise an attempt must end within [`QueueSpec::attempt_limit`].
    pub fn renews(&self) -> bool {
        self.inner.place.renews()
    }

    /// The longest that an attempt on a task of this table may take, where leases are not renewed.
    pub(super) fn attempt_limit(&self, table: &TableName) -> Option<Duration> {
        let spec = self.index(table).map(|index| &self.specs()[index]);
        spec.filter(|_| !self.renews())?.attempt_limit()
    }

    /// Runs steps as one statement and reads its answer.
    async fn run_statement(
        &self,
        database: &Database,
        doing: &'static str,
        steps: &[Step],
    ) -> Result<Vec<Answer>, QueueError> {
        let statement = Statement::of(steps, self.specs(), &self.layout());
        if statement.is_empty() {
            return Ok(Vec::new());
        }
        let (text, params) = statement.finish();
        let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            params.iter().map(|param| &**param as _).collect();
        let client = database.get().await?;
        let failed = QueueError::doing(doing);
        let prepared = client.prepare_cached(&text).await.map_err(&failed)?;
        let rows = client.query(&prepared, &params).await.map_err(&failed)?;
        Ok(rows.iter().map(read).collect())
    }

    /// Whether an error means that a queue came or went since we looked.
    pub(super) fn is_stale(error: &QueueError) -> bool {
        matches!(error, QueueError::Missing(_))
            || matches!(
                error.sql_state(),
                Some(
                    &SqlState::UNDEFINED_TABLE
                        | &SqlState::UNDEFINED_COLUMN
                        | &SqlState::UNDEFINED_FUNCTION
                )
            )
    }
}

/// A row of a statement's answer.
fn read(row: &Row) -> Answer {
    let kind = Kind::of(row.get(0));
    let seconds: Option<f64> = row.get(7);
    Answer {
        kind,
        queue: usize::try_from(row.get::<_, i32>(1)).expect("our own number comes back"),
        id: row.get(2),
        attempt: row.get(3),
        read: (kind == Kind::Claimed).then(|| Read {
            enqueued_at: row.get(4),
            message: payload(row.get(5)),
            headers: row
                .get::<_, Option<String>>(6)
                .map(|text| payload(Some(text))),
            waited: seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()),
            until: None,
        }),
    }
}
