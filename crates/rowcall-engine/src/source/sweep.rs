//! Sweeps: what was missed, and what waits for a person, goes into the calendar.
//!
//! At the start, the newest page of each table is recorded; claims then take the newest first and go on in pages. Tasks
//! behind a review route are never claimed here, so their sweeps go on page by page, and again after signals.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use rowcall_core::{
    Selector, SourceError, TableName, TaskRef, TaskState, Trigger, ports::TaskView,
};

use super::{SourceLoop, call::Done};
use crate::{
    bus::What,
    store::{Record, Seen},
};

/// The page size after the first page.
const LATER_PAGE: u32 = 500;

/// How many pages one review sweep reads at most.
const MAX_PAGES: u32 = 100;

/// How many reviewed tasks are remembered, so that their events are not repeated. The store keeps each once in any case.
const MAX_KNOWN: usize = 50_000;

/// One page to read.
#[derive(Clone, Debug)]
pub(super) struct SweepJob {
    selectors: Arc<[Selector]>,
    before: Option<(Timestamp, TaskRef)>,
    page: u32,
    /// Whether the pages after this one are read as well.
    all: bool,
}

/// What is to be swept.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    jobs: VecDeque<SweepJob>,
    under_way: bool,
    /// Something happened that may have made tasks for review.
    pub(super) review_dirty: bool,
    known: HashSet<TaskRef>,
}

impl SourceLoop {
    /// The start-up sweep of every table, and that of changed routes.
    pub(super) fn begin_sweeps(&mut self) {
        self.sweeps.jobs.clear();
        self.sweeps.review_dirty = false;
        if !self.source.coordinator.capabilities().sweep {
            return;
        }
        if self.shared.store.enabled() {
            self.queue_sweeps(Trigger::Auto, false);
        }
        self.queue_sweeps(Trigger::Review, true);
    }

    fn queue_sweeps(&mut self, trigger: Trigger, all: bool) {
        let mut tables: BTreeMap<&TableName, Vec<Selector>> = BTreeMap::new();
        for app in &self.apps {
            let selectors = match trigger {
                Trigger::Auto => &app.entry.auto,
                Trigger::Review => &app.entry.review,
            };
            for selector in selectors.iter() {
                tables
                    .entry(&selector.table)
                    .or_default()
                    .push(selector.clone());
            }
        }
        self.sweeps
            .jobs
            .extend(tables.into_values().map(|selectors| SweepJob {
                selectors: selectors.into(),
                before: None,
                page: 0,
                all,
            }));
    }

    pub(super) fn start_sweep(&mut self) {
        if self.sweeps.under_way || self.stop.has_begun() {
            return;
        }
        if self.sweeps.jobs.is_empty() && std::mem::take(&mut self.sweeps.review_dirty) {
            if !self.source.coordinator.capabilities().sweep {
                return;
            }
            self.queue_sweeps(Trigger::Review, false);
        }
        let Some(job) = self.sweeps.jobs.pop_front() else {
            return;
        };
        self.sweeps.under_way = true;
        let limit = self.page_size(&job);
        let coordinator = Arc::clone(&self.source.coordinator);
        let (selectors, before) = (Arc::clone(&job.selectors), job.before.clone());
        self.call(
            async move { coordinator.sweep(&selectors, before, limit).await },
            move |result| Done::Swept(Box::new(job), result),
        );
    }

    fn page_size(&self, job: &SweepJob) -> u32 {
        if job.page == 0 {
            self.shared.options.sweep_page
        } else {
            LATER_PAGE
        }
    }

    pub(super) fn swept(&mut self, job: SweepJob, result: Result<Vec<TaskView>, SourceError>) {
        self.sweeps.under_way = false;
        let views = match result {
            Ok(views) => views,
            Err(error) => {
                self.sweeps.jobs.push_front(job);
                return self.failed_call("sweep", &error);
            }
        };
        self.worked();
        let mut news = false;
        for view in &views {
            news |= self.seen(view);
        }
        let full = views.len() >= self.page_size(&job) as usize;
        // A page of nothing but new tasks may have more of them behind it.
        if full && (job.all || news) && job.page + 1 < MAX_PAGES {
            let before = views
                .last()
                .map(|view| (view.task.created_at, view.task.task.clone()));
            if job.all || self.is_review(&job) {
                self.sweeps.jobs.push_front(SweepJob {
                    before,
                    page: job.page + 1,
                    ..job
                });
            }
        }
    }

    fn is_review(&self, job: &SweepJob) -> bool {
        let Some(selector) = job.selectors.first() else {
            return false;
        };
        self.apps
            .iter()
            .any(|app| app.entry.review.contains(selector))
    }

    /// Puts a task into the calendar; says whether it is one for review that was not seen since the start.
    fn seen(&mut self, view: &TaskView) -> bool {
        let open = matches!(view.state, Some(TaskState::Pending | TaskState::Failed));
        if !open || view.needs_attention {
            return false;
        }
        let Some((app, agent, trigger)) = self.apps.iter().find_map(|app| {
            let route = app.entry.route(&view.task, None)?;
            Some((app.entry.id.clone(), route.agent.id.clone(), route.trigger))
        }) else {
            return false;
        };
        let task = view.task.task.clone();
        let news = trigger == Trigger::Review && !self.sweeps.known.contains(&task);
        if news {
            if self.sweeps.known.len() >= MAX_KNOWN {
                self.sweeps.known.clear();
            }
            self.sweeps.known.insert(task.clone());
            self.happened.push(What::Review {
                task: task.clone(),
                app: app.clone(),
                agent: agent.clone(),
            });
        }
        if news || trigger == Trigger::Auto {
            self.record(|this| {
                Record::Seen(Box::new(Seen {
                    task,
                    source: view.task.source.clone(),
                    event: view.task.event,
                    app,
                    agent,
                    trigger,
                    at: this.wall,
                }))
            });
        }
        news
    }
}
