//! The exclusive right to run one attempt of a task.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{MachineId, TaskRef};

/// How long a lease lives and how often its holder renews it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasePolicy {
    /// Without a renewal for this long, the lease is stale and the task may be taken. 5 minutes in the published
    /// protocol; a table shared with RealTimeX must keep that.
    pub ttl: Duration,
    /// The heartbeat interval; 2 minutes in the published protocol.
    pub renew_every: Duration,
}

impl Default for LeasePolicy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_mins(5),
            renew_every: Duration::from_mins(2),
        }
    }
}

/// Names a lease without being one: what renewals and settlements are fenced by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseKey {
    /// The leased task.
    pub task: TaskRef,
    /// The machine that holds it.
    pub machine: MachineId,
    /// Which attempt it is. A machine that lost its lease and got the task again holds another attempt.
    pub attempt: u32,
}

/// The exclusive right to run one attempt of a task. It is not `Clone`: whoever has it either settles it or releases it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease must be settled or released, or the task waits for its expiry"]
pub struct Lease(LeaseKey);

impl Lease {
    /// Coordinators make leases, from a claim that the database granted.
    pub fn granted(key: LeaseKey) -> Self {
        Self(key)
    }

    /// What renewals and settlements name.
    pub fn key(&self) -> &LeaseKey {
        &self.0
    }

    /// Ends the lease's life in this process, for a settlement or a release.
    pub fn into_key(self) -> LeaseKey {
        self.0
    }
}
