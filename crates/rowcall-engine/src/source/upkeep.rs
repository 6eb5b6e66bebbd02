//! What the loop does by the clock: the regular look, polls after activity, retries, and waiting out trouble.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rowcall_core::{AppId, SourceError, ports::Maintenance};

use super::{
    SourceLoop,
    call::Done,
    claim::AppState,
    timers::{due, sooner},
};
use crate::bus::{What, cut};

/// How much the regular look is put off at random, as a part of its interval: machines started together drift apart.
const JITTER: f64 = 0.1;

/// How the source does.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether signals flow.
    pub(super) up: bool,
    /// Failed calls in a row.
    failures: u32,
    maintaining: bool,
    /// What is wrong, for people; `None` since something worked.
    pub(super) last: Option<String>,
}

impl SourceLoop {
    /// Starts what goes on for as long as the loop does.
    pub(super) fn begin_upkeep(&mut self) {
        self.timers.maintain = Some(self.now);
        self.activity();
    }

    /// Carries out everything whose time has come.
    pub(super) fn tick(&mut self) {
        self.tick_leases();
        self.tick_stop();
        let now = self.now;
        due(&mut self.timers.trouble, now);
        if due(&mut self.timers.blocked, now) {
            let blocked = self.apps.iter().filter_map(|app| app.blocked);
            self.timers.blocked = blocked.filter(|until| *until > now).min();
        }
        if due(&mut self.timers.scan, now) {
            self.scan();
        }
        if due(&mut self.timers.resubscribe, now) {
            self.resubscribe();
        }
        // The pump finds settlements put aside by looking at the clock itself.
        due(&mut self.timers.aside, now);
        self.nudged |= due(&mut self.timers.nudge, now);
        if self.timers.take_retries(now) {
            self.look(true);
        }
        if self.stop.has_begun() {
            // Nothing is looked for any more.
            self.timers.trail_at = None;
            self.timers.maintain = None;
            return;
        }
        if due(&mut self.timers.trail_at, now) {
            self.timers.next_trail(&self.shared.options.poll.trailing);
            self.poll();
        }
        if due(&mut self.timers.maintain, now) {
            self.sweeps.review_dirty = true;
            self.maintain();
        }
    }

    /// A look after activity: one statement, whichever is the cheaper.
    fn poll(&mut self) {
        self.sweeps.review_dirty = true;
        let apps = self.apps.iter().filter(|app| !app.entry.auto.is_empty());
        if apps.count() > 1 {
            self.maintain();
        } else {
            // Failed tasks of other machines too: their announcements do not always say what they announce.
            self.look(true);
        }
    }

    /// Recovers stale leases and asks whether anything is ready, in one statement.
    fn maintain(&mut self) {
        if self.timers.trouble.is_some() {
            self.timers.maintain = self.timers.trouble;
            return;
        }
        let options = &self.shared.options;
        let interval = if self.health.up {
            options.poll.up
        } else {
            options.poll.down
        };
        let jitter = interval.mul_f64(self.shared.ids.unit() * JITTER);
        self.timers.maintain = Some(self.now + interval + jitter);
        if self.health.maintaining || self.apps.is_empty() {
            return;
        }
        self.health.maintaining = true;
        let coordinator = Arc::clone(&self.source.coordinator);
        let (rules, selectors) = (Arc::clone(&self.rules), Arc::clone(&self.selectors));
        self.call(
            async move { coordinator.maintain(&rules, &selectors).await },
            Done::Maintained,
        );
    }

    pub(super) fn maintained(&mut self, result: Result<Maintenance, SourceError>) {
        self.health.maintaining = false;
        let found = match result {
            Ok(found) => found,
            Err(error) => {
                self.failed_call("maintain", &error);
                return sooner(
                    &mut self.timers.maintain,
                    self.now + self.shared.options.poll.down,
                );
            }
        };
        self.worked();
        if let Some(wait) = found.next_retry {
            self.timers.retry_at(self.now + wait);
        }
        if found.ready || !found.recovered.is_empty() {
            self.look(true);
        }
        self.shared
            .counters
            .recovered
            .add(found.recovered.len() as u64);
        for task in &found.recovered {
            tracing::info!(task.id = %task, "stale lease recovered");
            self.happened.push(What::Recovered { task: task.clone() });
        }
        self.announce(found.recovered);
    }

    /// A call to the source worked.
    pub(super) fn worked(&mut self) {
        if self.health.failures > 0 {
            tracing::info!(source = %self.source.name, "the source answers again");
        }
        self.health.failures = 0;
        self.health.last = None;
    }

    /// A call failed: wait before the next one, longer each time.
    pub(super) fn failed_call(&mut self, during: &'static str, error: &SourceError) {
        self.health.failures = self.health.failures.saturating_add(1);
        let wait = self
            .shared
            .options
            .trouble
            .delay(self.health.failures, self.shared.ids.unit());
        self.timers.trouble = Some(self.now + wait);
        self.note_failure(during, error, wait);
    }

    pub(super) fn note_failure(
        &mut self,
        during: &'static str,
        error: &SourceError,
        retry_in: Duration,
    ) {
        tracing::warn!(source = %self.source.name, during, %error, ?retry_in, "a call failed");
        self.shared.counters.failed_calls.add(1);
        self.health.last = Some(error.to_string());
        self.happened.push(What::SourceTrouble {
            during,
            error: cut(&error.to_string()),
            retry_in_ms: u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// Routes or limits changed: running tasks go on, everything else follows the new table.
    pub(super) fn apps_changed(&mut self) {
        let table = Arc::clone(&self.table.borrow_and_update());
        let page = self.shared.options.sweep_page;
        let mut before = std::mem::take(&mut self.apps);
        for entry in &table.entries {
            let served = match &self.source.apps {
                Some(apps) => apps.contains(&entry.id),
                None => !self.shared.elsewhere.contains(&entry.id),
            };
            if !served {
                continue;
            }
            let known = before
                .iter()
                .position(|app| {
                    app.entry.is(&entry.id, entry.agent.as_ref()) && app.entry.auto == entry.auto
                })
                .map(|index| before.swap_remove(index));
            let state = if let Some(mut app) = known {
                app.entry = entry.clone();
                app.look_anywhere();
                app
            } else {
                // New selectors have missed everything so far: their own start-up sweep.
                let tables = u32::try_from(entry.tables().len()).unwrap_or(u32::MAX);
                let newest = if self.source.in_order {
                    0
                } else {
                    page.saturating_mul(tables)
                };
                AppState::new(entry.clone(), newest)
            };
            self.apps.push(state);
        }
        self.selectors = self
            .apps
            .iter()
            .flat_map(|app| app.entry.auto.iter().cloned())
            .collect();
        self.next_app = 0;
        self.begin_sweeps();
        let apps: BTreeSet<&AppId> = self.apps.iter().map(|app| &app.entry.id).collect();
        let apps = apps.len();
        self.happened.push(What::AppsChanged { apps });
    }
}
