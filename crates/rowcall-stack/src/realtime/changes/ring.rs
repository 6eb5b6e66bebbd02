//! The last changes, for clients that come back and ask for what they missed.

use std::collections::VecDeque;
use std::sync::Arc;

use super::position::Position;
use super::record::Change;

/// Changes in their order, bounded by the memory they hold.
#[derive(Debug)]
pub(crate) struct Ring {
    changes: VecDeque<(Arc<Change>, usize)>,
    bytes: usize,
    max_bytes: usize,
    /// Everything after this place is in the ring.
    complete_after: Position,
}

impl Ring {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            changes: VecDeque::new(),
            bytes: 0,
            max_bytes,
            complete_after: Position::default(),
        }
    }

    pub(crate) fn push(&mut self, change: Arc<Change>) {
        let bytes = change.bytes();
        self.bytes += bytes;
        self.changes.push_back((change, bytes));
        while self.bytes > self.max_bytes {
            let Some((dropped, bytes)) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= bytes;
            self.complete_after = dropped.position;
        }
    }

    /// Changes after a place; false when some of them are no longer held.
    pub(crate) fn after(&self, position: Position) -> (Vec<Arc<Change>>, bool) {
        let start = self
            .changes
            .partition_point(|(change, _)| change.position <= position);
        let changes = self
            .changes
            .range(start..)
            .map(|(change, _)| Arc::clone(change))
            .collect();
        (changes, position >= self.complete_after)
    }
}
