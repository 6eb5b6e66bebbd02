//! Joins the channels and serves whatever comes first.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered, SelectAll},
};
use jiff::Timestamp;
use rowcall_core::{MachineId, Signal, TableName};
use rowcall_realtime::channel::{ChannelSpec, Event};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::supabase::{Inner, Load, Machine, Wanted, announce, plan::Plan, presence};

/// Activities that are written at the same time from events.
const MAX_CAPTURING: usize = 32;
/// Looks whether tasks are still open that are under way at the same time.
const MAX_LOOKS: usize = 4;
/// How often the project is asked whether it still is as it was: a trigger or a function may have been added.
const LOOK_AGAIN_EVERY: Duration = Duration::from_mins(5);

/// Where an event comes from.
pub(super) enum From {
    /// Changes of a table.
    Changes(TableName),
    /// Other machines of an app.
    Retry,
    Machines,
}

/// How the channels came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The apps listen to other tables, or the project has changed.
    JoinAnew,
    /// The client is gone.
    End,
}

pub(super) struct Dispatch<'a> {
    pub(super) inner: &'a Inner,
    pub(super) plan: Arc<Plan>,
    pub(super) wanted: watch::Receiver<Arc<Wanted>>,
    online_at: Timestamp,
    pub(super) present: watch::Sender<Vec<MachineId>>,
    pub(super) machines: watch::Sender<Vec<Machine>>,
    pub(super) capturing: FuturesUnordered<BoxFuture<'a, ()>>,
    /// Looks whether tasks are still open.
    pub(super) looking: FuturesUnordered<BoxFuture<'a, Vec<Signal>>>,
}

impl<'a> Dispatch<'a> {
    pub(super) fn new(
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
            capturing: FuturesUnordered::new(),
            looking: FuturesUnordered::new(),
        }
    }

    /// Joins the channels that the plan asks for, and serves them until others are wanted.
    pub(super) async fn run(&mut self) -> Next {
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
        let mut renewing = None;
        let mut load = self.inner.load.subscribe();
        load.mark_changed();
        loop {
            let due = self.next_due();
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
                () = until(due), if self.looking.len() < MAX_LOOKS => self.look_for_due(),
                Some(open) = self.looking.next() => {
                    for signal in open {
                        self.inner.signals.send(signal);
                    }
                }
                Ok(()) = self.wanted.changed() => return Next::JoinAnew,
                _ = again.tick(), if renewing.is_none() => {
                    renewing = Some(self.inner.plans.renew().boxed());
                }
                renewed = answered(&mut renewing) => {
                    renewing = None;
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
