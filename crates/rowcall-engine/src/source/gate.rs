//! Telling a gated source when its wake-ups are of no use.
//!
//! While every app claims without being woken, wake-ups only cost the writers. The gate is closed then, and opened as soon
//! as one app has drained; what was committed in between is found by the look after the opening and the trailing polls.

use std::{sync::Arc, time::Duration};

use rowcall_core::SourceError;
use tokio::time::Instant;

use super::{SourceLoop, call::Done};

/// How many full claims in a row make an app busy.
const BUSY_STREAK: u32 = 3;

/// How often the source is told again while claims go on: it opens its gate by itself when it hears nothing, in case the
/// engine is gone.
const TELL_AGAIN: Duration = Duration::from_millis(100);

/// What the source was told.
#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: bool,
    under_way: bool,
    told: Option<Instant>,
}

impl Gate {
    pub(super) fn is_closed(&self) -> bool {
        self.closed || self.under_way
    }
}

impl SourceLoop {
    pub(super) fn steer_gate(&mut self) {
        if self.gate.under_way {
            return;
        }
        // Calendar entries of reviewed tasks are made when a signal comes, so those wake-ups are wanted always.
        let busy = !self.stop.has_begun()
            && !self.apps.is_empty()
            && self
                .apps
                .iter()
                .all(|app| app.entry.review.is_empty() && app.more && app.streak >= BUSY_STREAK);
        let open = self.stop.has_begun()
            || self.apps.iter().any(|app| {
                !app.entry.review.is_empty() || (!app.more && !app.entry.auto.is_empty())
            });
        let wanted = if self.gate.closed { !open } else { busy };
        let again = busy
            && self
                .gate
                .told
                .is_some_and(|at| self.now.saturating_duration_since(at) >= TELL_AGAIN);
        if wanted == self.gate.closed && !again {
            return;
        }
        self.gate.under_way = true;
        self.gate.told = wanted.then_some(self.now);
        let signals = Arc::clone(&self.source.signals);
        self.call(
            async move { signals.set_busy(wanted).await },
            move |result| Done::Gated {
                busy: wanted,
                result,
            },
        );
    }

    pub(super) fn gated(&mut self, busy: bool, result: Result<(), SourceError>) {
        self.gate.under_way = false;
        match result {
            Ok(()) => self.gate.closed = busy,
            Err(error) => self.failed_call("gate", &error),
        }
        if !busy {
            // Between the last empty claim and the opening, commits woke nobody.
            self.look(false);
            self.activity();
        }
    }
}
