//! Stopping: first softly, then firmly.
//!
//! Soft: nothing more is claimed; running tasks get the grace while heartbeats and settlements go on. After the grace they
//! are told to stop and are given back. Agents that do not end within the stop limit are dropped. Hard: they are dropped at
//! once. Either way the last settlements and releases get a short time to be written.

use rowcall_core::{AgentError, AgentErrorKind};
use tokio::time::Instant;

use super::{LoopEnd, SourceLoop, call::bounded, timers::due};
use crate::{
    bus::What,
    unit::{Phase, Unit, UnitId},
};

/// How far a stop has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    No,
    /// Running tasks may go on.
    Grace,
    /// They were told to stop.
    Told,
    /// They were dropped; only writing is left.
    Dropped,
    /// Nothing is waited for any more.
    Over,
}

#[derive(Debug, Default)]
pub(super) struct Stop {
    step: Step,
    hard: bool,
}

impl Stop {
    pub(super) fn has_begun(&self) -> bool {
        self.step != Step::No
    }

    pub(super) fn is_hard(&self) -> bool {
        self.hard
    }
}

impl SourceLoop {
    pub(super) fn begin_soft_stop(&mut self) {
        self.look_at_clocks();
        tracing::info!(source = %self.source.name, running = self.units.len(), "stopping softly");
        self.happened.push(What::Stopping { hard: false });
        self.stop.step = Step::Grace;
        self.timers.stop = Some(self.now + self.shared.options.shutdown_grace);
    }

    pub(super) fn begin_hard_stop(&mut self) {
        self.look_at_clocks();
        tracing::warn!(source = %self.source.name, running = self.units.len(), "stopping hard");
        self.happened.push(What::Stopping { hard: true });
        self.stop.hard = true;
        self.drop_agents();
    }

    pub(super) fn tick_stop(&mut self) {
        if !due(&mut self.timers.stop, self.now) {
            return;
        }
        match self.stop.step {
            Step::Grace => self.tell_agents(),
            Step::Told => self.drop_agents(),
            Step::Dropped => self.stop.step = Step::Over,
            Step::No | Step::Over => {}
        }
    }

    /// Asks one agent to end; its task is given back when it has.
    pub(super) fn tell_agent(&mut self, id: UnitId) {
        if let Some(unit) = self.units.get_mut(id)
            && unit.phase == Phase::Running
        {
            unit.phase = Phase::Stopping;
        }
        self.order_stop(id);
    }

    fn tell_agents(&mut self) {
        self.stop.step = Step::Told;
        self.timers.stop = Some(self.now + self.shared.options.stop_limit);
        for id in self.units.ids(Unit::running) {
            self.tell_agent(id);
        }
    }

    fn drop_agents(&mut self) {
        self.stop.step = Step::Dropped;
        self.timers.stop = Some(self.now + self.shared.options.farewell_limit);
        // A farewell does not wait out a backoff.
        self.timers.trouble = None;
        self.agents.abort();
        for id in self.units.ids(Unit::running) {
            self.tell_agent(id);
            let gone = AgentError::new(AgentErrorKind::Canceled, "dropped by a hard stop");
            self.agent_ended(id, Err(gone));
        }
    }

    /// Whether everything is done that a stop waits for.
    pub(super) fn stopped(&self) -> bool {
        match self.stop.step {
            Step::No => false,
            Step::Over => true,
            Step::Grace | Step::Told | Step::Dropped => {
                self.units.is_empty()
                    && self.exchanges == 0
                    && self.settles.is_empty()
                    && self.releases.is_empty()
            }
        }
    }

    /// The last things before the loop is gone.
    pub(super) async fn farewell(mut self) -> LoopEnd {
        let abandoned = self.units.len();
        if abandoned > 0 {
            tracing::warn!(
                source = %self.source.name,
                abandoned,
                "could not write the end of some tasks; they are tried again when their leases are over"
            );
        }
        // Dropping the calls would cancel them in the middle; they are bounded.
        let until = Instant::now() + self.shared.options.farewell_limit;
        while !self.calls.is_empty() {
            match tokio::time::timeout_at(until, self.calls.next()).await {
                Ok(Some(done)) => self.called(done),
                Ok(None) | Err(_) => break,
            }
        }
        if self.gate.is_closed() {
            let limit = self.shared.options.farewell_limit;
            let signals = std::sync::Arc::clone(&self.source.signals);
            if let Err(error) = bounded(limit, signals.set_busy(false)).await {
                tracing::warn!(%error, "the wake-up gate could not be opened");
            }
        }
        self.flush();
        if !self.records.is_empty() {
            let limit = self.shared.options.farewell_limit;
            let _ = tokio::time::timeout(limit, async {
                while !self.records.is_empty() {
                    self.shared.store.room().await;
                    self.shared.store.write(&mut self.records);
                }
            })
            .await;
        }
        LoopEnd { abandoned }
    }
}
