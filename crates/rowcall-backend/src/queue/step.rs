//! What the coordinator has done with messages, before it is known where they are: a database takes steps as one statement, a
//! project as one call of our function, or as calls of Supabase's own.

/// One thing to do. Steps that are given together are one transaction where that is possible.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Reads messages.
    Claim(Claim),
    /// Ends messages that were handled.
    Done { queue: usize, leases: Leases },
    /// Makes failed messages visible again after a delay each (seconds), or at the end of their lease (`None`).
    Retry {
        queue: usize,
        leases: Leases,
        delays: Vec<Option<f64>>,
    },
    /// Gives messages up; `errors` belongs to `leases`.
    GiveUp {
        queue: usize,
        leases: Leases,
        errors: Vec<String>,
    },
    /// Changes leases.
    Lease {
        queue: usize,
        leases: Leases,
        change: Change,
    },
}

/// What becomes of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Prolonged by a visibility time-out from now; never shortened.
    Renew,
    /// Only looked at.
    Check,
    /// Given back unrun: visible at once, and the attempt does not count.
    Release,
}

/// A claim of several queues, those named first before those named later.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// At most so many in all.
    pub(super) limit: i64,
    pub(super) parts: Vec<ClaimPart>,
    pub(super) newest_first: bool,
    /// Only this message.
    pub(super) only: Option<i64>,
    /// Messages of a queue that are not read although their leases may have run out, because a step before this one settles
    /// them.
    pub(super) settled: Option<(usize, Vec<i64>)>,
}

/// What a claim of one queue asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClaimPart {
    /// The queue's place among the specs; comes back with each row.
    pub(super) queue: usize,
    /// At most this many of this queue.
    pub(super) cap: i64,
}

/// Leases of one queue, as arrays of the same length.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    pub(super) ids: Vec<i64>,
    pub(super) attempts: Vec<i32>,
}

impl Leases {
    pub(super) fn push(&mut self, id: i64, attempt: i32) {
        self.ids.push(id);
        self.attempts.push(attempt);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, i32)> {
        self.ids.iter().copied().zip(self.attempts.iter().copied())
    }
}

impl Step {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Claim(claim) => claim.limit <= 0 || claim.parts.is_empty(),
            Self::Done { leases, .. }
            | Self::Retry { leases, .. }
            | Self::GiveUp { leases, .. }
            | Self::Lease { leases, .. } => leases.is_empty(),
        }
    }
}

/// What a row of the answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message we hold now.
    Claimed = 0,
    /// A message that was given up instead of being claimed.
    GivenUp = 1,
    /// A lease that was settled, renewed or released: it was still ours.
    Held = 2,
}

impl Kind {
    /// From the number that stands for it.
    pub(super) fn of(number: i16) -> Self {
        match number {
            0 => Self::Claimed,
            1 => Self::GivenUp,
            _ => Self::Held,
        }
    }
}

/// A row of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) kind: Kind,
    pub(super) queue: usize,
    pub(super) id: i64,
    pub(super) attempt: i32,
    /// What a claim read.
    pub(super) read: Option<Read>,
}

/// A message as a claim reads it.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) enqueued_at: jiff::Timestamp,
    pub(super) message: rowcall_core::Payload,
    pub(super) headers: Option<rowcall_core::Payload>,
    /// How long it had been visible, where that is known.
    pub(super) waited: Option<std::time::Duration>,
    /// Until when it is ours, where that is not a visibility time-out from now.
    pub(super) until: Option<tokio::time::Instant>,
}

impl Answer {
    /// A lease that was still ours.
    pub(super) fn held(queue: usize, id: i64, attempt: i32) -> Self {
        Self {
            kind: Kind::Held,
            queue,
            id,
            attempt,
            read: None,
        }
    }
}
