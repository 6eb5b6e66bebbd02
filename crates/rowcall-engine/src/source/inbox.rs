//! The inbox: signals become flags, so that any number of them costs one look.

use futures_util::{StreamExt as _, stream};
use rowcall_core::{Signal, TaskRef};

use super::{SourceLoop, timers::sooner};
use crate::bus::What;

impl SourceLoop {
    pub(super) fn signal_or_end(&mut self, signal: Option<Signal>) {
        if let Some(signal) = signal {
            return self.signal(signal);
        }
        // Streams do not end by contract; one that does is a source that is down.
        self.signals = stream::pending().boxed();
        let retry_in = self.shared.options.trouble.cap;
        self.timers.resubscribe = Some(self.now + retry_in);
        self.signal(Signal::Down {
            reason: "the signal stream ended".to_owned(),
            retry_in,
        });
    }

    pub(super) fn resubscribe(&mut self) {
        self.signals = self.source.signals.signals();
    }

    fn signal(&mut self, signal: Signal) {
        self.shared.counters.signals.add(1);
        match signal {
            Signal::Dirty { table, task } => {
                match &task {
                    Some(task) => self.look_at(task, false),
                    None => self.look(false),
                }
                self.happened.push(What::Signal { table, task });
                self.sweeps.review_dirty = true;
                self.activity();
            }
            Signal::Available { task, failed_by } => {
                // Our own failures come back by their retry time, or never.
                if failed_by.as_ref() != Some(&self.shared.machine) {
                    self.look_at(&task, true);
                    self.happened.push(What::Signal {
                        table: task.table.clone(),
                        task: Some(task),
                    });
                }
            }
            Signal::Up => {
                if !self.health.up {
                    tracing::info!(source = %self.source.name, "signals flow");
                }
                self.health.up = true;
                self.happened.push(What::SourceUp);
                // Signals may have been missed until now.
                self.look(true);
                self.sweeps.review_dirty = true;
                self.activity();
            }
            Signal::Down { reason, retry_in } => {
                if self.health.up {
                    tracing::warn!(source = %self.source.name, %reason, "signals stopped; polling");
                }
                self.health.up = false;
                self.health.last = Some(reason.clone());
                sooner(
                    &mut self.timers.maintain,
                    self.now + self.shared.options.poll.down,
                );
                self.happened.push(What::SourceDown {
                    reason,
                    retry_in_ms: u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
                });
            }
        }
    }

    /// Marks every app for a claim; `retryable` ones also take failed tasks that may be tried again.
    pub(super) fn look(&mut self, retryable: bool) {
        for app in &mut self.apps {
            app.look_anywhere();
            app.retryable |= retryable;
        }
    }

    /// Marks every app for a claim of one task.
    fn look_at(&mut self, task: &TaskRef, retryable: bool) {
        for app in &mut self.apps {
            app.look_at(task);
            app.retryable |= retryable;
        }
    }

    /// What happened while the source is gated, or down, is found by looks that follow.
    pub(super) fn activity(&mut self) {
        if self.gated || !self.health.up {
            self.timers
                .activity(self.now, &self.shared.options.poll.trailing);
        }
    }
}
