//! Keeps the Realtime side of a project going: which channels are joined, and what becomes of what they say.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered, SelectAll},
};
use jiff::Timestamp;
use rowcall_core::{EventKind, EventSet, MachineId, Signal, TableName, TaskRef, dispersal};
use rowcall_realtime::{
    channel::{Backoff, Change, ChangeFilter, ChannelSpec, Event},
    client,
    join::ChangeEvent,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};

use super::{
    Inner, Load, Machine, Wanted, announce,
    capture::{Captured, is_worth_another_try, kind},
    plan::Plan,
    presence,
    table::Table,
};

/// Signals held back for machines that go first. More are dropped: the regular look finds what they would have told.
const MAX_HELD_BACK: usize = 10_000;
/// Activities that are written at the same time from events.
const MAX_CAPTURING: usize = 32;
/// Tries to write one activity.
const CAPTURE_TRIES: u32 = 6;
/// How often the project is asked whether it still is as it was: a trigger or a function may have been added.
const LOOK_AGAIN_EVERY: Duration = Duration::from_mins(5);
/// Waits between attempts to learn what a project has.
const PLAN_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Keeps the Realtime side of a project going; see [`SupabaseDriver::run`].
pub struct SupabaseDriver {
    inner: Arc<Inner>,
    socket: client::Driver,
    present: watch::Sender<Vec<MachineId>>,
    machines: watch::Sender<Vec<Machine>>,
}

impl std::fmt::Debug for SupabaseDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SupabaseDriver").finish_non_exhaustive()
    }
}

/// Where an event comes from.
enum From {
    /// Changes of a table.
    Changes(TableName),
    /// Other machines of an app.
    Retry,
    Machines,
}

impl SupabaseDriver {
    pub(super) fn new(
        inner: Arc<Inner>,
        socket: client::Driver,
        present: watch::Sender<Vec<MachineId>>,
        machines: watch::Sender<Vec<Machine>>,
    ) -> Self {
        Self {
            inner,
            socket,
            present,
            machines,
        }
    }

    /// Runs for as long as it is polled: spawn it, and drop or abort it to stop. Without it the backend claims and settles, but
    /// gives no signals.
    pub async fn run(self) {
        let Self {
            inner,
            socket,
            present,
            machines,
        } = self;
        let dispatch = async {
            let wanted = inner.wanted.subscribe();
            let plan = learn(&inner).await;
            let mut dispatch = Dispatch::new(&inner, plan, wanted, present, machines);
            while dispatch.run().await == Next::JoinAnew {
                dispatch.plan = learn(&inner).await;
                inner.signals.begin_anew();
            }
        };
        // Both never end by themselves; what one waits for must not hold up the other.
        tokio::join!(socket.run(), dispatch);
    }
}

/// Asks the project what it has, until it answers.
async fn learn(inner: &Inner) -> Arc<Plan> {
    let mut backoff = Backoff::new(PLAN_BACKOFF.0, PLAN_BACKOFF.1);
    loop {
        match inner.plans.get().await {
            Ok(plan) => return plan,
            Err(error) => {
                let wait = backoff.fail(rand::random());
                let reason = inner.explain(error, "learn what the project has").message;
                inner.signals.down("project", reason, wait);
                sleep(wait).await;
            }
        }
    }
}

/// Signals that wait because other machines go first, by task.
#[derive(Default)]
struct HeldBack(BTreeMap<TaskRef, (Instant, Signal)>);

impl HeldBack {
    fn next(&self) -> Option<Instant> {
        self.0.values().map(|(due, _)| *due).min()
    }

    /// A task waits once, from its first signal on. That a machine has failed it says more than that it has changed.
    fn put(&mut self, task: TaskRef, due: Instant, signal: Signal) {
        let room = self.0.len() < MAX_HELD_BACK;
        match self.0.entry(task) {
            Entry::Occupied(mut held) if matches!(signal, Signal::Available { .. }) => {
                held.get_mut().1 = signal;
            }
            Entry::Vacant(free) if room => {
                free.insert((due, signal));
            }
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
    }

    fn take_due(&mut self, now: Instant) -> BTreeMap<TaskRef, Signal> {
        let (due, rest) = std::mem::take(&mut self.0)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, (due, _))| *due <= now);
        self.0 = rest;
        due.into_iter()
            .map(|(task, (_, signal))| (task, signal))
            .collect()
    }
}

/// How the channels came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The apps listen to other tables, or the project has changed.
    JoinAnew,
    /// The client is gone.
    End,
}

struct Dispatch<'a> {
    inner: &'a Inner,
    plan: Arc<Plan>,
    wanted: watch::Receiver<Arc<Wanted>>,
    online_at: Timestamp,
    present: watch::Sender<Vec<MachineId>>,
    machines: watch::Sender<Vec<Machine>>,
    held_back: HeldBack,
    capturing: FuturesUnordered<BoxFuture<'a, ()>>,
}

impl<'a> Dispatch<'a> {
    fn new(
        inner: &'a Inner,
        plan: Arc<Plan>,
        wanted: watch::Receiver<Arc<Wanted>>,
        present: watch::Sender<Vec<MachineId>>,
        machines: watch::Sender<Vec<Machine>>,
    ) -> Self {
        Self {
            inner,
            plan,
            wanted,
            online_at: inner.config.clock.now(),
            present,
            machines,
            held_back: HeldBack::default(),
            capturing: FuturesUnordered::new(),
        }
    }

    /// Joins the channels that the plan asks for, and serves them until others are wanted.
    async fn run(&mut self) -> Next {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let mut events: SelectAll<BoxStream<'_, (From, Event)>> = SelectAll::new();
        for (table, spec) in self.change_channels() {
            let from = move || From::Changes(table.clone());
            events.extend(join(self.inner, spec, from).await);
        }
        let apps: BTreeSet<_> = wanted.apps.iter().collect();
        for app in apps {
            let spec = ChannelSpec::new(announce::channel(app));
            events.extend(join(self.inner, spec, || From::Retry).await);
        }
        let me = self.inner.config.identity.machine.as_str();
        let spec = ChannelSpec::new(presence::CHANNEL).presence(me);
        let Ok(channel) = self.inner.realtime.join(spec).await else {
            return Next::End;
        };
        let board = channel.present();
        let sender = channel.sender();
        events.push(
            channel
                .into_stream()
                .map(|event| (From::Machines, event))
                .boxed(),
        );
        let mut again = interval_at(Instant::now() + LOOK_AGAIN_EVERY, LOOK_AGAIN_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looking = None;
        let mut load = self.inner.load.subscribe();
        load.mark_changed();
        loop {
            let held = self.held_back.next();
            // Every branch only waits: nothing is lost when another one is taken.
            tokio::select! {
                Some((from, event)) = events.next(), if self.capturing.len() < MAX_CAPTURING => {
                    self.take(from, event, &board);
                }
                Ok(()) = load.changed() => {
                    let load: Load = *load.borrow_and_update();
                    let ours =
                        Machine::ours(&self.inner.config, &wanted.apps, self.online_at, load);
                    // State that cannot be sent now is sent after the next join.
                    let _ = sender.track(&ours).await;
                }
                Some(()) = self.capturing.next() => {}
                () = until(held) => self.release().await,
                Ok(()) = self.wanted.changed() => return Next::JoinAnew,
                _ = again.tick(), if looking.is_none() => {
                    looking = Some(self.inner.plans.renew().boxed());
                }
                renewed = answered(&mut looking) => {
                    looking = None;
                    // No answer: the project is as it was, as far as anybody knows.
                    if renewed.unwrap_or(false) {
                        tracing::info!("the project has changed: joining its channels anew");
                        return Next::JoinAnew;
                    }
                }
                else => return Next::End,
            }
        }
    }

    /// One channel for each table: what is wrong with one must not silence the others.
    fn change_channels(&self) -> Vec<(TableName, ChannelSpec)> {
        let spec = |table: &TableName| ChannelSpec::new(format!("rowcall-changes:{table}"));
        let locked = self.plan.tables().map(|table| {
            let name = table.name();
            let events = self.events_of(table);
            // Heartbeats and settlements of all machines are updates too; those that leave work to do are few.
            let open = ChangeFilter::table(name.schema(), name.name())
                .event(ChangeEvent::Update)
                .filter("status=in.(pending,failed)");
            let new = ChangeFilter::table(name.schema(), name.name()).event(ChangeEvent::Insert);
            let mut spec = spec(name);
            if events.contains(EventKind::Insert) {
                spec = spec.changes(new);
            }
            (name.clone(), spec.changes(open))
        });
        let listened = self.plan.captured_here.iter().chain(&self.plan.blind);
        let captured = listened.map(|name| {
            let events = self.selected_events(name).into_iter();
            let filters = events.map(|event| {
                let filter = ChangeFilter::table(name.schema(), name.name());
                filter.event(ChangeEvent::parse(event.as_str()))
            });
            (name.clone(), filters.fold(spec(name), ChannelSpec::changes))
        });
        locked.chain(captured).collect()
    }

    fn events_of(&self, table: &Table) -> EventSet {
        if table.is_activities() {
            return EventSet::ALL;
        }
        self.selected_events(table.name()).into_iter().collect()
    }

    fn selected_events(&self, table: &TableName) -> BTreeSet<EventKind> {
        let wanted = self.wanted.borrow();
        let selectors = wanted.selectors.iter();
        let here = selectors.filter(|selector| selector.table == *table);
        here.flat_map(|selector| selector.events.iter()).collect()
    }

    fn take(
        &mut self,
        from: From,
        event: Event,
        board: &watch::Receiver<Arc<rowcall_realtime::presence::Presences>>,
    ) {
        match (from, event) {
            (From::Changes(table), Event::Up) => self.inner.signals.up(&table.to_string()),
            (From::Changes(_), Event::Lagged { dropped }) => {
                tracing::warn!(dropped, "Realtime events came faster than they were taken");
                self.inner.signals.send(Signal::Up);
            }
            (
                From::Changes(table),
                Event::Down {
                    reason, retry_in, ..
                },
            ) => {
                let reason = format!("no changes of {table} from Realtime: {reason}");
                self.inner
                    .signals
                    .down(&table.to_string(), reason, retry_in);
            }
            (From::Changes(table), Event::Change(change)) => self.take_change(&table, &change),
            // A broadcast that was missed is made up for by the regular look.
            (From::Retry, Event::Broadcast(said)) => {
                let me = &self.inner.config.identity.machine;
                if let Some(signal) = announce::heard(&said, me) {
                    self.tell(signal);
                }
            }
            (From::Machines, Event::Presence(_) | Event::Down { .. } | Event::Lagged { .. }) => {
                let machines = presence::machines(&board.borrow());
                self.present
                    .send_replace(presence::with_a_free_slot(&machines));
                self.machines.send_replace(machines);
            }
            _ => {}
        }
    }

    fn take_change(&mut self, table: &TableName, change: &Change) {
        if self.plan.captured_here.contains(table) {
            self.capture(change);
            return;
        }
        if self.plan.blind.contains(table) {
            self.take_unseen(table, change);
            return;
        }
        let Some(table) = self.plan.table(table) else {
            return;
        };
        let Some(record) = change.record.clone() else {
            return;
        };
        let task = match table.row(record) {
            // A row that this machine failed is not for this machine.
            Ok(row)
                if row
                    .attempted_by()
                    .contains(&self.inner.config.identity.machine) =>
            {
                return;
            }
            Ok(row) => Some(row.task_ref()),
            // The record is incomplete, or its key is hidden: something is there.
            Err(_) => None,
        };
        if kind(change).is_some() {
            self.tell(Signal::Dirty {
                table: table.name().clone(),
                task,
            });
        }
    }

    /// A change of a table that only Realtime shows: the row is kept, because nobody else will give it.
    fn take_unseen(&mut self, table: &TableName, change: &Change) {
        let Some(record) = &change.record else { return };
        let unseen = Table::unseen(self.inner.rest.clone(), table.clone());
        let Ok(row) = unseen.row(record.clone()) else {
            return;
        };
        if !row.is_selected(&self.wanted.borrow().selectors) {
            return;
        }
        let task = row.task_ref();
        self.inner.memory.note_record(&task, row.task(0).raw_data);
        self.tell(Signal::Dirty {
            table: table.clone(),
            task: Some(task),
        });
    }

    /// Passes a signal on, at once if this machine comes first for its task.
    fn tell(&mut self, signal: Signal) {
        let task = match &signal {
            Signal::Dirty {
                task: Some(task), ..
            }
            | Signal::Available { task, .. } => task.clone(),
            _ => {
                self.inner.signals.send(signal);
                return;
            }
        };
        if self.plan.table(&task.table).is_none() && !self.plan.blind.contains(&task.table) {
            return;
        }
        let me = &self.inner.config.identity.machine;
        let rank = dispersal::rank(&task, me, self.present.borrow().iter());
        let delay = self.inner.config.dispersal.delay(rank);
        if delay.is_zero() {
            self.inner.signals.send(signal);
        } else {
            self.held_back.put(task, Instant::now() + delay, signal);
        }
    }

    /// Passes on what is due and still open: one look for all of it, instead of a lost claim for each.
    async fn release(&mut self) {
        let mut due = self.held_back.take_due(Instant::now());
        let tables: BTreeSet<TableName> = due.keys().map(|task| task.table.clone()).collect();
        for name in tables {
            let tasks: BTreeSet<TaskRef> = due
                .keys()
                .filter(|task| task.table == name)
                .cloned()
                .collect();
            let Some(table) = self.plan.table(&name) else {
                for signal in tasks.iter().filter_map(|task| due.remove(task)) {
                    self.inner.signals.send(signal);
                }
                continue;
            };
            // Without an answer the claim will tell.
            let open = self.inner.still_open(table, &tasks).await;
            let open = open.unwrap_or_else(|_| tasks.into_iter().collect());
            for signal in open.iter().filter_map(|task| due.remove(task)) {
                self.inner.signals.send(signal);
            }
        }
    }

    fn capture(&self, change: &Change) {
        let Some(activities) = self.plan.activities.clone() else {
            return;
        };
        let Some(captured) = Captured::new(change, &self.wanted.borrow().selectors) else {
            return;
        };
        let rest = self.inner.rest.clone();
        let write = async move {
            let call = captured.call(&activities);
            let mut backoff = Backoff::new(PLAN_BACKOFF.0, PLAN_BACKOFF.1);
            for _ in 0..CAPTURE_TRIES {
                match rest.send(&call).await {
                    Ok(_) => return,
                    Err(error) if is_worth_another_try(&error) => {
                        sleep(backoff.fail(rand::random())).await;
                    }
                    Err(error) => {
                        let error = error.during("write an activity");
                        tracing::error!(%error, activity = %captured.id, "an event was not captured");
                        return;
                    }
                }
            }
            tracing::error!(activity = %captured.id, "an event was not captured: the project did not answer");
        };
        self.capturing.push(write.boxed());
    }
}

async fn join<'a>(
    inner: &Inner,
    spec: ChannelSpec,
    from: impl Fn() -> From + Send + 'a,
) -> Option<BoxStream<'a, (From, Event)>> {
    let name = spec.name().to_owned();
    match inner.realtime.join(spec).await {
        Ok(channel) => Some(
            channel
                .into_stream()
                .map(move |event| (from(), event))
                .boxed(),
        ),
        Err(error) => {
            tracing::warn!(channel = name, %error, "a Realtime channel could not be set up");
            None
        }
    }
}

/// The answer, when something was asked.
async fn answered<T>(asked: &mut Option<BoxFuture<'_, T>>) -> T {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
