//! Permits: nobody claims what there is no room to run (invariant 5).
//!
//! A permit is taken before the claim and given back when the agent's process is gone. Two counters bound every task:
//! that of its app and that of the machine. Limits change while tasks run; a lowered limit drains.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

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
        self.used.fetch_sub(places, Ordering::AcqRel);
    }
}

/// The places of one app, below those of the machine.
#[derive(Debug)]
pub(crate) struct AppSlots {
    own: Slots,
    machine: Arc<Slots>,
}

impl AppSlots {
    pub(crate) fn new(limit: u32, machine: Arc<Slots>) -> Self {
        Self {
            own: Slots::new(limit),
            machine,
        }
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        self.own.limit.store(limit, Ordering::Relaxed);
    }

    pub(crate) fn limit(&self) -> u32 {
        self.own.limit()
    }

    pub(crate) fn used(&self) -> u32 {
        self.own.used()
    }

    /// How many could be taken now; another source may be quicker.
    pub(crate) fn free(&self) -> u32 {
        self.own.free().min(self.machine.free())
    }

    /// Takes up to `want` permits.
    pub(crate) fn take(self: &Arc<Self>, want: u32) -> Permits {
        let own = self.own.take(want);
        let granted = self.machine.take(own);
        if granted < own {
            self.own.give(own - granted);
        }
        Permits {
            app: Arc::clone(self),
            left: granted,
        }
    }

    fn give(&self, places: u32) {
        if places > 0 {
            self.own.give(places);
            self.machine.give(places);
        }
    }
}

/// Permits for one claim; those that the claim does not use are given back on drop.
#[derive(Debug)]
pub(crate) struct Permits {
    app: Arc<AppSlots>,
    left: u32,
}

impl Permits {
    pub(crate) fn count(&self) -> u32 {
        self.left
    }

    pub(crate) fn split(&mut self) -> Option<Permit> {
        self.left = self.left.checked_sub(1)?;
        Some(Permit {
            app: Arc::clone(&self.app),
        })
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.app.give(self.left);
    }
}

/// The place of one running agent, given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    app: Arc<AppSlots>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.app.give(1);
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
        let first = a.take(10);
        let second = b.take(10);
        assert_eq!((first.count(), second.count()), (4, 1));
        assert_eq!((b.used(), machine.used(), a.free()), (1, 5, 0));
        drop(first);
        assert_eq!((b.free(), machine.used()), (3, 1));
    }

    #[test]
    fn a_split_permit_outlives_its_batch() {
        let machine = Arc::new(Slots::new(9));
        let a = app(3, &machine);
        let mut batch = a.take(3);
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
        let held = a.take(3);
        a.set_limit(1);
        assert_eq!(a.take(1).count(), 0);
        drop(held);
        assert_eq!(a.take(5).count(), 1);
    }
}
