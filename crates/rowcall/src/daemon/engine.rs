//! What the engines of `rowcall up` and `rowcall worker` have in common.

use std::sync::Arc;

use anyhow::Context as _;
use rowcall_core::{Clock, ports::AgentRunner};
use rowcall_engine::{
    Engine, EngineBuilder, EngineOptions,
    store::{Store, StoreWriter},
};
use rowcall_supervisor::Runners;

use super::{Addresses, agents, queue::Queues};
use crate::system::{RandomIds, SystemClock};

/// An engine in the making, and what has to outlive it.
pub(super) struct EngineParts {
    /// Has a machine, a clock, runners and a store; with queues, their source.
    pub(super) builder: EngineBuilder,
    pub(super) runners: Arc<Runners>,
    pub(super) writer: Arc<StoreWriter>,
}

/// The engine of the machine at `addresses`, without apps, and without sources other than queues.
pub(super) fn prepare(
    addresses: &Addresses,
    store: &Arc<Store>,
    options: EngineOptions,
    queues: Option<&Queues>,
) -> anyhow::Result<EngineParts> {
    let runners = agents::runners(addresses, store).context("cannot prepare the agents' guard")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let writer = Arc::new(StoreWriter::start(store, Arc::clone(&clock))?);
    let runner = Arc::clone(&runners) as Arc<dyn AgentRunner>;
    let runner = match queues {
        Some(queues) => queues.announcing(runner),
        None => runner,
    };
    let builder = Engine::builder()
        .machine(addresses.machine.clone())
        .clock(clock)
        .ids(Arc::new(RandomIds))
        .runner(runner)
        .store(Arc::clone(&writer) as _)
        .options(options);
    Ok(EngineParts {
        builder,
        runners,
        writer,
    })
}
