//! Permits: nobody claims what there is no room to run (invariant 5).
//!
//! A permit is taken before the claim and given back when the agent's process is gone. Three counters bound every task:
//! that of its agent when it has a limit of its own (a warm worker), that of its app and that of the machine. Limits change
//! while tasks run; a lowered limit drains.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use rowcall_core::AgentId;

/// A counted number of places.
#[derive(Debug)]
pub(crate) struct Slots {
    limit: AtomicU32,
    used: AtomicU32,
}

impl Slots {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            used: AtomicU32::new(0),
        }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn free(&self) -> u32 {
        self.limit().saturating_sub(self.used())
    }

    /// Takes up to `want` places and says how many.
    fn take(&self, want: u32) -> u32 {
        let mut used = self.used();
        loop {
            let granted = want.min(self.limit().saturating_sub(used));
            if granted == 0 {
                return 0;
            }
            match self.used.compare_exchange_weak(
                used,
                used + granted,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return granted,
                Err(now) => used = now,
            }
        }
    }

    fn give(&self, places: u32) {
        if places > 0 {
            self.used.fetch_sub(places, Ordering::AcqRel);
        }
    }
}

/// The places of one app, below those of the machine.
#[derive(Debug)]
pub(crate) struct AppSlots {
    own: Slots,
    machine: Arc<Slots>,
    /// The places of agents with a limit of their own: kept with the app's, so that a lane that leaves and comes back
    /// still counts what runs.
    agents: Mutex<BTreeMap<AgentId, Arc<Slots>>>,
}

impl AppSlots {
    pub(crate) fn new(limit: u32, machine: Arc<Slots>) -> Self {
        Self {
            own: Slots::new(limit),
            machine,
            agents: Mutex::default(),
        }
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        self.own.set_limit(limit);
    }

    pub(crate) fn limit(&self) -> u32 {
        self.own.limit()
    }

    pub(crate) fn used(&self) -> u32 {
        self.own.used()
    }

    /// The lane of the agents without limits of their own.
    pub(crate) fn lane(self: &Arc<Self>) -> Arc<Lane> {
        Arc::new(Lane {
            app: Arc::clone(self),
            agent: None,
        })
    }

    /// The lane of an agent that takes so many tasks at once.
    pub(crate) fn agent_lane(self: &Arc<Self>, agent: &AgentId, limit: u32) -> Arc<Lane> {
        let mut agents = self.agents.lock();
        let slots = agents
            .entry(agent.clone())
            .or_insert_with(|| Arc::new(Slots::new(limit)));
        slots.set_limit(limit);
        Arc::new(Lane {
            app: Arc::clone(self),
            agent: Some(Arc::clone(slots)),
        })
    }

    fn take(&self, want: u32) -> u32 {
        let own = self.own.take(want);
        let granted = self.machine.take(own);
        self.own.give(own - granted);
        granted
    }

    fn give(&self, places: u32) {
        self.own.give(places);
        self.machine.give(places);
    }
}

/// Where permits are taken: the places of one agent, below those of its app, or the app's alone.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) app: Arc<AppSlots>,
    agent: Option<Arc<Slots>>,
}

impl Lane {
    /// How many could be taken now; another source may be quicker.
    pub(crate) fn free(&self) -> u32 {
        let app = self.app.own.free().min(self.app.machine.free());
        self.agent
            .as_ref()
            .map_or(app, |agent| agent.free().min(app))
    }

    /// Takes up to `want` permits.
    pub(crate) fn take(self: &Arc<Self>, want: u32) -> Permits {
        let agent = self.agent.as_ref().map_or(want, |agent| agent.take(want));
        let left = self.app.take(agent);
        if let Some(slots) = &self.agent {
            slots.give(agent - left);
        }
        Permits {
            lane: Arc::clone(self),
            left,
        }
    }

    fn give(&self, places: u32) {
        if let Some(agent) = &self.agent {
            agent.give(places);
        }
        self.app.give(places);
    }
}

/// Permits for one claim; those that the claim does not use are given back on drop.
#[derive(Debug)]
pub(crate) struct Permits {
    lane: Arc<Lane>,
    left: u32,
}

impl Permits {
    pub(crate) fn count(&self) -> u32 {
        self.left
    }

    pub(crate) fn split(&mut self) -> Option<Permit> {
        self.left = self.left.checked_sub(1)?;
        Some(Permit {
            lane: Arc::clone(&self.lane),
        })
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.lane.give(self.left);
    }
}

/// The place of one running agent, given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    lane: Arc<Lane>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lane.give(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(limit: u32, machine: &Arc<Slots>) -> Arc<AppSlots> {
        Arc::new(AppSlots::new(limit, Arc::clone(machine)))
    }

    #[test]
    fn both_limits_bound_a_claim() {
        let machine = Arc::new(Slots::new(5));
        let (a, b) = (app(4, &machine), app(4, &machine));
        let first = a.lane().take(10);
        let second = b.lane().take(10);
        assert_eq!((first.count(), second.count()), (4, 1));
        assert_eq!((b.used(), machine.used(), a.lane().free()), (1, 5, 0));
        drop(first);
        assert_eq!((b.lane().free(), machine.used()), (3, 1));
    }

    #[test]
    fn a_split_permit_outlives_its_batch() {
        let machine = Arc::new(Slots::new(9));
        let a = app(3, &machine);
        let mut batch = a.lane().take(3);
        let one = batch.split().unwrap();
        drop(batch);
        assert_eq!((a.used(), machine.used()), (1, 1));
        drop(one);
        assert_eq!((a.used(), machine.used()), (0, 0));
    }

    #[test]
    fn a_lowered_limit_drains() {
        let machine = Arc::new(Slots::new(9));
        let a = app(3, &machine);
        let held = a.lane().take(3);
        a.set_limit(1);
        assert_eq!(a.lane().take(1).count(), 0);
        drop(held);
        assert_eq!(a.lane().take(5).count(), 1);
    }

    #[test]
    fn an_agents_limit_bounds_its_lane_alone() {
        let machine = Arc::new(Slots::new(9));
        let a = app(5, &machine);
        let worker = AgentId::new("warm").unwrap();
        let warm = a.agent_lane(&worker, 2);
        let held = warm.take(4);
        assert_eq!((held.count(), warm.free()), (2, 0));
        // The same agent of a later configuration counts what runs.
        let later = a.agent_lane(&worker, 3);
        assert_eq!((later.free(), later.take(9).count()), (1, 1));
        let others = a.lane().take(9);
        assert_eq!((others.count(), a.used(), machine.used()), (3, 5, 5));
        drop(held);
        assert_eq!((later.free(), machine.used()), (2, 3));
        drop(others);
        // What the app cannot give is not counted against the agent.
        let most = a.lane().take(4);
        assert_eq!(later.take(3).count(), 1);
        assert_eq!(later.free(), 1);
        drop(most);
        assert_eq!((later.free(), a.used(), machine.used()), (3, 0, 0));
    }
}
