//! The functions that rowcall installs for daemons that only reach a project over REST: several tasks per request, fenced by
//! attempt, decided by the database's clock. Their contracts stand in `sql/functions/rowcall_*.sql`.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use rowcall_core::{
    EventKind, EventSet, LeaseKey, MAX_RETRY_DELAY, MachineId, Payload, Selector, TableName,
    TaskId,
    ports::{ClaimRules, Settlement, Verdict},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use super::{
    error::RestError,
    http::{Call, Rest},
    table::{Row, Table},
};
use crate::text::{storable_payload, storable_text};

/// The version of the functions that this program speaks.
const VERSION: u32 = 1;
/// Verdicts and leases sent in one request.
const MAX_BATCH: usize = 200;
/// Results sent in one request, in bytes; a single larger one goes alone.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// What a project with our functions offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Protocol {
    version: u32,
    /// Tables whose changes a trigger writes to `rtx_activities`.
    #[serde(default)]
    pub(crate) captured: BTreeSet<String>,
    /// Whether row level security is on for `rtx_activities`.
    #[serde(default)]
    pub(crate) row_security: Option<bool>,
}

/// Asks what a project offers; nothing when our functions are not there or are of a version we do not speak.
pub(crate) async fn protocol(rest: &Rest) -> Result<Option<Protocol>, RestError> {
    match rest
        .fetch::<Protocol>(&Call::rpc("rowcall_protocol", &json!({})))
        .await
    {
        Ok(protocol) => Ok((protocol.version == VERSION).then_some(protocol)),
        Err(error) if error.is_missing_function() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What [`Functions::maintain`] found.
#[derive(Debug, Deserialize)]
pub(crate) struct Found {
    pub(crate) recovered: Vec<Recovered>,
    pub(crate) ready: bool,
    pub(crate) next_retry: Option<f64>,
}

/// A task whose lease was stale.
#[derive(Debug, Deserialize)]
pub(crate) struct Recovered {
    pub(crate) id: Uuid,
    pub(crate) locked_by: Option<String>,
}

#[derive(Serialize)]
struct Lease {
    id: Uuid,
    attempt: u32,
}

#[derive(Serialize)]
struct Written<'a> {
    id: Uuid,
    attempt: u32,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_in: Option<f64>,
}

impl<'a> Written<'a> {
    fn new(settlement: &'a Settlement) -> Option<Self> {
        let Settlement { lease, verdict } = settlement;
        let (result, error, retry_in) = match verdict {
            Verdict::Completed(result) => (Some(storable_payload(result)), None, None),
            Verdict::Failed { error, retry_in } => (None, Some(error), *retry_in),
            Verdict::Canceled { reason } => (None, Some(reason), None),
        };
        Some(Self {
            id: lease.task.id.as_uuid()?,
            attempt: lease.attempt,
            state: verdict.state().as_str(),
            result,
            error: error.map(|text| storable_text(text)),
            retry_in: retry_in.map(|delay| delay.min(MAX_RETRY_DELAY).as_secs_f64()),
        })
    }

    fn bytes(&self) -> usize {
        self.result.as_ref().map_or(0, |result| result.get().len())
            + self.error.as_ref().map_or(0, |error| error.len())
    }
}

/// Our functions, on `rtx_activities`.
pub(crate) struct Functions<'a>(pub(crate) &'a Table);

impl Functions<'_> {
    async fn rows(&self, function: &str, arguments: &Value) -> Result<Vec<Row>, RestError> {
        let call = Call::rpc(function, arguments);
        let rows = self.0.rest().fetch::<Vec<Box<RawValue>>>(&call).await?;
        self.0.rows(rows)
    }

    /// Claims those of the tasks that can be claimed.
    pub(crate) async fn claim(
        &self,
        rules: &ClaimRules,
        tasks: &[Uuid],
    ) -> Result<Vec<Row>, RestError> {
        let arguments = json!({
            "machine": rules.machine,
            "tasks": tasks,
            "max_attempts": rules.retry.max_attempts,
            "same_machine": rules.retry.same_machine.is_some(),
            "lease_seconds": rules.lease.ttl.as_secs_f64(),
        });
        let mut rows = self.rows("rowcall_claim", &arguments).await?;
        // Nothing runs that was not asked for.
        rows.retain(|row| row.id.as_uuid().is_some_and(|id| tasks.contains(&id)));
        Ok(rows)
    }

    /// Claims what is next. The filters of the selectors are not looked at.
    pub(crate) async fn claim_next(
        &self,
        rules: &ClaimRules,
        selectors: &[&Selector],
        limit: u32,
        retryable: bool,
        newest_first: bool,
    ) -> Result<Vec<Row>, RestError> {
        let arguments = json!({
            "machine": rules.machine,
            "sources": sources(selectors),
            "max_tasks": limit,
            "retryable": retryable,
            "newest_first": newest_first,
            "max_attempts": rules.retry.max_attempts,
            "same_machine": rules.retry.same_machine.is_some(),
        });
        self.rows("rowcall_claim_next", &arguments).await
    }

    /// Renews, starts or releases leases of a machine; returns the tasks that were still its own.
    pub(crate) async fn lease(
        &self,
        machine: &MachineId,
        leases: &[&LeaseKey],
        action: &str,
    ) -> Result<BTreeSet<TaskId>, RestError> {
        let mut held = BTreeSet::new();
        for leases in leases.chunks(MAX_BATCH) {
            let leases: Vec<Lease> = leases
                .iter()
                .filter_map(|lease| {
                    Some(Lease {
                        id: lease.task.id.as_uuid()?,
                        attempt: lease.attempt,
                    })
                })
                .collect();
            let arguments = json!({"machine": machine, "leases": leases, "action": action});
            let call = Call::rpc("rowcall_lease", &arguments);
            let ids: Vec<Uuid> = self.0.rest().fetch(&call).await?;
            held.extend(ids.into_iter().map(TaskId::from));
        }
        Ok(held)
    }

    /// Writes verdicts of one machine, each task once; returns the tasks for which the verdict stands.
    pub(crate) async fn settle(
        &self,
        machine: &MachineId,
        settlements: &[&Settlement],
    ) -> Result<BTreeSet<TaskId>, RestError> {
        let all = settlements.iter().filter_map(|one| Written::new(one));
        let mut stands = BTreeSet::new();
        let mut chunk: Vec<Written<'_>> = Vec::new();
        let mut bytes = 0;
        for one in all {
            if chunk.len() == MAX_BATCH
                || (!chunk.is_empty() && bytes + one.bytes() > MAX_BATCH_BYTES)
            {
                stands.extend(
                    self.settle_chunk(machine, std::mem::take(&mut chunk))
                        .await?,
                );
                bytes = 0;
            }
            bytes += one.bytes();
            chunk.push(one);
        }
        stands.extend(self.settle_chunk(machine, chunk).await?);
        Ok(stands)
    }

    /// One value that PostgreSQL cannot store must not hold up the others: they go one by one then, and that one fails.
    async fn settle_chunk(
        &self,
        machine: &MachineId,
        chunk: Vec<Written<'_>>,
    ) -> Result<Vec<TaskId>, RestError> {
        if chunk.is_empty() {
            return Ok(Vec::new());
        }
        let error = match self.write(machine, &chunk).await {
            Err(error) if error.is_bad_value() => error,
            ids => return ids,
        };
        if chunk.len() == 1 {
            let mut one = chunk;
            for written in &mut one {
                written.state = "failed";
                written.result = None;
                written.error = Some(format!("the result cannot be stored: {error}").into());
            }
            return self.write(machine, &one).await;
        }
        let mut stands = Vec::new();
        for one in chunk {
            stands.extend(Box::pin(self.settle_chunk(machine, vec![one])).await?);
        }
        Ok(stands)
    }

    async fn write(
        &self,
        machine: &MachineId,
        verdicts: &[Written<'_>],
    ) -> Result<Vec<TaskId>, RestError> {
        #[derive(Serialize)]
        struct Arguments<'a> {
            machine: &'a MachineId,
            verdicts: &'a [Written<'a>],
        }
        let call = Call::rpc("rowcall_settle", &Arguments { machine, verdicts });
        let ids: Vec<Uuid> = self.0.rest().fetch(&call).await?;
        Ok(ids.into_iter().map(TaskId::from).collect())
    }

    /// One look at everything that is due. The filters of the selectors are not looked at.
    pub(crate) async fn maintain(
        &self,
        rules: &ClaimRules,
        selectors: &[&Selector],
    ) -> Result<Found, RestError> {
        let arguments = json!({
            "machine": rules.machine,
            "sources": sources(selectors),
            "lease_seconds": rules.lease.ttl.as_secs_f64(),
            "max_attempts": rules.retry.max_attempts,
            "same_machine": rules.retry.same_machine.is_some(),
        });
        let call = Call::rpc("rowcall_maintain", &arguments);
        self.0.rest().fetch(&call).await
    }
}

/// Every table once, with all events that are wanted of it.
fn sources(selectors: &[&Selector]) -> Value {
    let mut tables: BTreeMap<&TableName, Vec<EventKind>> = BTreeMap::new();
    for selector in selectors
        .iter()
        .filter(|selector| !selector.events.is_empty())
    {
        tables
            .entry(&selector.table)
            .or_default()
            .extend(selector.events.iter());
    }
    let sources = tables.into_iter().map(|(table, events)| {
        let events: EventSet = events.into_iter().collect();
        let words: Vec<&str> = events.iter().map(EventKind::as_str).collect();
        json!({"table": table, "events": (events != EventSet::ALL).then_some(words)})
    });
    sources.collect()
}
