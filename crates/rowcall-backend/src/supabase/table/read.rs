//! Finding tasks: candidates for a claim, sweeps, lists.

use jiff::Timestamp;
use rowcall_core::{
    EventKind, EventSet, MachineId, Selector, TaskId, TaskRef, TaskState,
    ports::{ClaimOrder, ClaimRules, TaskQuery},
};
use serde_json::value::RawValue;

use super::write::MAX_IDS;
use super::{Row, Table};
use crate::supabase::{
    error::RestError,
    http::Call,
    query::{Condition, Query, one_of},
};

/// Most rows asked for at once; REST servers cut at 1,000 by themselves.
pub(crate) const MAX_PAGE: u32 = 500;

/// Which rows of those that fit.
#[derive(Clone, Copy)]
pub(crate) struct Page {
    pub(crate) order: ClaimOrder,
    pub(crate) limit: u32,
    pub(crate) offset: u32,
}

impl Table {
    /// The rows of a query. An answer that is too large is asked for in smaller portions, down to a single row.
    pub(crate) async fn select(&self, query: Query, limit: u32) -> Result<Vec<Row>, RestError> {
        let mut limit = limit.clamp(1, MAX_PAGE);
        loop {
            let query = query
                .clone()
                .with("select", "*")
                .with("limit", limit.to_string());
            let call = self.call(Call::get).queried(query);
            match self.rest.fetch::<Vec<Box<RawValue>>>(&call).await {
                Ok(rows) => return self.rows(rows),
                Err(RestError::TooLarge(_)) if limit > 1 => limit /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// One row as it is now.
    pub(crate) async fn find(&self, id: &TaskId) -> Result<Option<Row>, RestError> {
        let query = Query::new().eq("id", &id.to_string());
        match self.select(query, 1).await {
            Ok(rows) => Ok(rows.into_iter().find(|row| row.id == *id)),
            // A text that is no key of this table's type names no row.
            Err(error) if error.is_bad_value() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// These rows as they are now, as far as they are pending or failed.
    pub(crate) async fn find_open(&self, ids: &[TaskId]) -> Result<Vec<Row>, RestError> {
        let mut found = Vec::new();
        for ids in ids.chunks(MAX_IDS) {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let limit = u32::try_from(ids.len()).unwrap_or(MAX_PAGE);
            let query = Query::new()
                .with("id", one_of(ids.iter().map(String::as_str)))
                .all(&[open()]);
            found.extend(self.select(query, limit).await?);
        }
        Ok(found)
    }

    /// Rows in this state that this machine may claim, as far as the project can tell; some may not match the selectors'
    /// filters.
    pub(crate) async fn candidates(
        &self,
        rules: &ClaimRules,
        selectors: &[Selector],
        state: TaskState,
        page: Page,
    ) -> Result<Vec<Row>, RestError> {
        let Some(source) = self.source(selectors) else {
            return Ok(Vec::new());
        };
        let mut conditions = vec![is(state)];
        conditions.extend(source);
        if self.has("retry_count") {
            let below = Condition::lt("retry_count", &rules.retry.max_attempts.to_string());
            conditions.push(Condition::any(&[Condition::null("retry_count"), below]));
        }
        conditions.extend(self.untried(rules));
        let query = self.ordered(Query::new().all(&conditions), page.order);
        let query = query.with("offset", page.offset.to_string());
        self.select(query, page.limit).await
    }

    /// Pending and failed rows, the newest first, below `before`.
    pub(crate) async fn sweep(
        &self,
        selectors: &[Selector],
        before: Option<&(Timestamp, TaskRef)>,
        limit: u32,
    ) -> Result<Vec<Row>, RestError> {
        let Some(source) = self.source(selectors) else {
            return Ok(Vec::new());
        };
        let mut conditions = vec![open()];
        conditions.extend(source);
        conditions.extend(before.map(|before| self.below(before)));
        let query = self.ordered(Query::new().all(&conditions), ClaimOrder::NewestFirst);
        self.select(query, limit).await
    }

    /// Rows for people, the newest first.
    pub(crate) async fn list(&self, wanted: &TaskQuery, limit: u32) -> Result<Vec<Row>, RestError> {
        let mut conditions = Vec::new();
        if !wanted.states.is_empty() {
            let words = wanted.states.iter().map(|state| state.as_str());
            let mut states = vec![Condition::one_of("status", words)];
            if wanted.states.contains(&TaskState::Pending) {
                states.push(Condition::null("status"));
            }
            conditions.push(Condition::any(&states));
        }
        if self.has("source_table") {
            let source = wanted.source.as_ref().map(ToString::to_string);
            conditions.extend(source.map(|source| Condition::eq("source_table", &source)));
            let event = wanted
                .event
                .map(|event| Condition::eq("source_event", event.as_str()));
            conditions.extend(event);
        }
        if wanted.needs_attention {
            conditions.push(open());
        }
        let query = self.ordered(Query::new().all(&conditions), ClaimOrder::NewestFirst);
        self.select(query, limit).await
    }

    /// Which of these rows are pending or failed.
    pub(crate) async fn open(&self, ids: &[TaskId]) -> Result<Vec<TaskRef>, RestError> {
        let mut found = Vec::new();
        for ids in ids.chunks(MAX_IDS) {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let query = Query::new()
                .with("id", one_of(ids.iter().map(String::as_str)))
                .all(&[open()])
                .with("select", "id");
            let call = self.call(Call::get).queried(query);
            let rows = self.rest.fetch::<Vec<Box<RawValue>>>(&call).await?;
            found.extend(self.rows(rows)?.iter().map(Row::task_ref));
        }
        Ok(found)
    }

    /// Rows that a machine has claimed and not said to run.
    pub(crate) async fn claimed_by(&self, machine: &MachineId) -> Result<Vec<Row>, RestError> {
        let query = Query::new()
            .eq("locked_by", machine.as_str())
            .eq("status", TaskState::Claimed.as_str());
        self.select(query, MAX_PAGE).await
    }

    /// Leased rows whose lease is older than `cutoff`, or has no time.
    pub(crate) async fn stale(&self, cutoff: Timestamp, limit: u32) -> Result<Vec<Row>, RestError> {
        let query = Query::new().all(&[leased(), older(cutoff)]);
        self.select(query, limit).await
    }

    /// What the selectors ask of the columns: nothing at all when nothing here is selected, no condition when everything is.
    fn source(&self, selectors: &[Selector]) -> Option<Vec<Condition>> {
        let here = |selector: &&Selector| {
            !selector.events.is_empty() && (self.is_activities || selector.table == self.name)
        };
        let here: Vec<&Selector> = selectors.iter().filter(here).collect();
        if here.is_empty() {
            return None;
        }
        if !self.has("source_table") {
            return Some(Vec::new());
        }
        let sources = here.iter().map(|selector| {
            let table = Condition::eq("source_table", &selector.table.to_string());
            if selector.events == EventSet::ALL {
                return table;
            }
            let events = selector.events.iter().map(EventKind::as_str);
            Condition::all(&[table, Condition::one_of("source_event", events)])
        });
        Some(vec![Condition::any(&sources.collect::<Vec<_>>())])
    }

    /// Not what this machine failed, unless it may try again.
    fn untried(&self, rules: &ClaimRules) -> Option<Condition> {
        if !self.has("attempted_by") {
            return None;
        }
        let untried = Condition::lacks("attempted_by", rules.machine.as_str());
        match rules.retry.same_machine {
            None => Some(untried),
            // `now` is read by PostgreSQL, as the time there.
            Some(_) if self.has("retry_at") => Some(Condition::any(&[
                untried,
                Condition::null("retry_at"),
                Condition::lt("retry_at", "now"),
            ])),
            Some(_) => None,
        }
    }

    fn ordered(&self, query: Query, order: ClaimOrder) -> Query {
        let order = match (self.has("created_at"), order) {
            (true, ClaimOrder::OldestFirst) => "created_at.asc.nullsfirst,id.asc",
            (true, ClaimOrder::NewestFirst) => "created_at.desc.nullslast,id.desc",
            (false, ClaimOrder::OldestFirst) => "id.asc",
            (false, ClaimOrder::NewestFirst) => "id.desc",
        };
        query.with("order", order)
    }

    /// Rows behind a cursor. Rows without a time count as the oldest; tables come one after the other where times are equal.
    fn below(&self, (at, last): &(Timestamp, TaskRef)) -> Condition {
        let id = Condition::lt("id", &last.id.to_string());
        if !self.has("created_at") {
            return id;
        }
        let undated = Condition::null("created_at");
        if *at == Timestamp::UNIX_EPOCH {
            return Condition::all(&[undated, id]);
        }
        let text = at.to_string();
        let mut below = vec![Condition::lt("created_at", &text), undated];
        let same_time = Condition::eq("created_at", &text);
        if last.table == self.name {
            below.push(Condition::all(&[same_time, id]));
        } else if self.name < last.table {
            below.push(same_time);
        }
        Condition::any(&below)
    }
}

/// In a state; null is pending.
fn is(state: TaskState) -> Condition {
    let word = Condition::eq("status", state.as_str());
    if state == TaskState::Pending {
        Condition::any(&[Condition::null("status"), word])
    } else {
        word
    }
}

/// Pending or failed.
fn open() -> Condition {
    Condition::any(&[is(TaskState::Pending), is(TaskState::Failed)])
}

pub(super) fn leased() -> Condition {
    Condition::one_of("status", ["claimed", "processing"])
}

pub(super) fn older(cutoff: Timestamp) -> Condition {
    let older = Condition::lt("locked_at", &cutoff.to_string());
    Condition::any(&[Condition::null("locked_at"), older])
}
