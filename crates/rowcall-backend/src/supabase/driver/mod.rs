//! Keeps the Realtime side of a project going: which channels are joined, and what becomes of what they say.

mod capture;
mod channels;
mod dispatch;
mod hear;
mod turn;

use std::{sync::Arc, time::Duration};

use rowcall_core::MachineId;
use rowcall_realtime::{channel::Backoff, client};
use tokio::{sync::watch, time::sleep};

use super::{Inner, Machine, plan::Plan};
use dispatch::{Dispatch, Next};

/// Waits between attempts to learn what a project has, or to write to it.
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
