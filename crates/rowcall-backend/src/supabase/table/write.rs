//! Guarded writes: every one names the state it expects, and the rows that come back are those it changed.

use jiff::Timestamp;
use rowcall_core::{
    MachineId, Payload, TaskId,
    ports::{ClaimRules, Verdict},
};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Row, Table,
    read::{leased, older},
};
use crate::supabase::{
    error::RestError,
    http::Call,
    query::{Condition, Query, one_of},
};
use crate::text::{storable_payload, storable_text};

/// Ids named in one request: they stand in the URL, and servers take some 16 KB of it.
pub(crate) const MAX_IDS: usize = 100;

/// The result of a verdict is stored as it is; everything else about the row is small.
#[derive(serde::Serialize)]
struct Completion<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<&'static str>,
}

impl Table {
    /// Changes rows and returns them as they are then.
    async fn patch(
        &self,
        query: Query,
        body: &impl serde::Serialize,
    ) -> Result<Vec<Row>, RestError> {
        let call = self
            .call(Call::patch)
            .queried(query.with("select", "*"))
            .prefer("return=representation")
            .json(body);
        self.rows(self.rest.fetch::<Vec<Box<RawValue>>>(&call).await?)
    }

    /// Changes leased rows of a machine and returns the ids that were still its own.
    async fn patch_held(
        &self,
        machine: &MachineId,
        ids: &[TaskId],
        body: &Value,
    ) -> Result<Vec<TaskId>, RestError> {
        let mut held = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MAX_IDS) {
            let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let query = Query::new()
                .with("id", one_of(texts.iter().map(String::as_str)))
                .eq("locked_by", machine.as_str())
                .all(&[leased()])
                .with("select", "id");
            let call = self
                .call(Call::patch)
                .queried(query)
                .prefer("return=representation")
                .json(body);
            let rows = self.rest.fetch::<Vec<Box<RawValue>>>(&call).await?;
            held.extend(self.rows(rows)?.into_iter().map(|row| row.id));
        }
        Ok(held)
    }

    /// Renews leases, by the database's clock.
    pub(crate) async fn renew(
        &self,
        machine: &MachineId,
        ids: &[TaskId],
    ) -> Result<Vec<TaskId>, RestError> {
        self.patch_held(machine, ids, &json!({"locked_at": "now"}))
            .await
    }

    /// Says that agents run.
    pub(crate) async fn start(
        &self,
        machine: &MachineId,
        ids: &[TaskId],
    ) -> Result<Vec<TaskId>, RestError> {
        self.patch_held(machine, ids, &json!({"status": "processing"}))
            .await
    }

    /// Gives leases back unrun.
    pub(crate) async fn release(
        &self,
        machine: &MachineId,
        ids: &[TaskId],
    ) -> Result<Vec<TaskId>, RestError> {
        self.patch_held(machine, ids, &unlocked("pending")).await
    }

    /// Claims a row of an own table: pending, failed and untried, or surely stale.
    pub(crate) async fn claim(
        &self,
        rules: &ClaimRules,
        id: &TaskId,
        stale_before: Option<Timestamp>,
    ) -> Result<Option<Row>, RestError> {
        let mut free = vec![
            Condition::null("status"),
            Condition::one_of("status", ["pending", "failed"]),
        ];
        free.extend(stale_before.map(|cutoff| Condition::all(&[leased(), older(cutoff)])));
        let mut conditions = vec![Condition::any(&free)];
        if self.has("attempted_by") && rules.retry.same_machine.is_none() {
            conditions.push(Condition::lacks("attempted_by", rules.machine.as_str()));
        }
        let query = Query::new().eq("id", &id.to_string()).all(&conditions);
        let body = json!({
            "status": "claimed", "locked_by": rules.machine, "locked_at": "now",
        });
        Ok(self.patch(query, &body).await?.into_iter().next())
    }

    /// Makes a null list of attempts an empty one, which the original claim function needs.
    pub(crate) async fn mend_attempts(&self, id: &TaskId) -> Result<(), RestError> {
        let query = Query::new()
            .eq("id", &id.to_string())
            .with("attempted_by", "is.null");
        self.patch(query, &json!({"attempted_by": []})).await?;
        Ok(())
    }

    /// Makes a null status the word it stands for, which the original claim function needs.
    pub(crate) async fn mend_status(&self, id: &TaskId) -> Result<(), RestError> {
        let query = Query::new()
            .eq("id", &id.to_string())
            .with("status", "is.null");
        self.patch(query, &json!({"status": "pending"})).await?;
        Ok(())
    }

    /// Lets a machine try again what it failed, by taking it out of the list of attempts.
    pub(crate) async fn forget_attempt(
        &self,
        row: &Row,
        machine: &MachineId,
    ) -> Result<(), RestError> {
        let query = Query::new()
            .eq("id", &row.id.to_string())
            .eq("status", &row.status)
            .eq("retry_count", &row.retry_count().to_string())
            .with("locked_by", "is.null");
        let others: Vec<MachineId> = row.attempted_by();
        let others: Vec<MachineId> = others.into_iter().filter(|one| one != machine).collect();
        self.patch(query, &json!({"attempted_by": others})).await?;
        Ok(())
    }

    /// Writes a verdict if the lease is still the machine's. Says whether it stands, also when it stood already because the
    /// answer to an earlier try was lost.
    pub(crate) async fn settle(
        &self,
        machine: &MachineId,
        id: &TaskId,
        verdict: &Verdict,
    ) -> Result<bool, RestError> {
        let held = Query::new()
            .eq("id", &id.to_string())
            .eq("locked_by", machine.as_str())
            .all(&[leased()]);
        let changed = match verdict {
            Verdict::Completed(result) => {
                let body = Completion {
                    status: "completed",
                    result: self.has("result").then_some(result),
                    completed_at: self.has("completed_at").then_some("now"),
                };
                match self.patch(held.clone(), &body).await {
                    // Some types hold these escapes, most do not: they are replaced only where they must be.
                    Err(error) if error.is_bad_value() && storable_payload(result) != *result => {
                        let verdict = Verdict::Completed(storable_payload(result));
                        return Box::pin(self.settle(machine, id, &verdict)).await;
                    }
                    Err(error) if error.is_bad_value() => {
                        let error = format!("the result cannot be stored: {error}");
                        return self.fail(machine, id, held, &error).await;
                    }
                    changed => !changed?.is_empty(),
                }
            }
            Verdict::Failed { error, .. } => return self.fail(machine, id, held, error).await,
            Verdict::Canceled { reason } => {
                let mut body = unlocked("canceled");
                self.put_error(&mut body, reason);
                !self.patch(held, &body).await?.is_empty()
            }
        };
        if changed {
            return Ok(true);
        }
        let Some(row) = self.find(id).await? else {
            return Ok(false);
        };
        Ok(match verdict {
            Verdict::Completed(_) => {
                row.status == "completed" && row.locked_by().as_ref() == Some(machine)
            }
            _ => row.status == "canceled",
        })
    }

    async fn fail(
        &self,
        machine: &MachineId,
        id: &TaskId,
        held: Query,
        error: &str,
    ) -> Result<bool, RestError> {
        // While we hold the lease nobody else changes these, so reading first is safe.
        let Some(row) = self.find(id).await? else {
            return Ok(false);
        };
        let mut attempted_by = row.attempted_by();
        if row.status == "failed" && attempted_by.contains(machine) {
            return Ok(true);
        }
        if !attempted_by.contains(machine) {
            attempted_by.push(machine.clone());
        }
        let mut body = unlocked("failed");
        self.put_error(&mut body, error);
        if self.has("attempted_by") {
            body["attempted_by"] = json!(attempted_by);
        }
        if self.has("retry_count") {
            body["retry_count"] = (row.retry_count().saturating_add(1)).into();
        }
        let query = if self.has("retry_count") && row.retry_count() > 0 {
            held.eq("retry_count", &row.retry_count().to_string())
        } else {
            held
        };
        Ok(!self.patch(query, &body).await?.is_empty())
    }

    /// Takes the lock off a row whose lock has no time: the original claim function never grants it.
    pub(crate) async fn recover_undated(&self, id: &TaskId) -> Result<(), RestError> {
        let query = Query::new()
            .eq("id", &id.to_string())
            .with("locked_at", "is.null")
            .all(&[leased()]);
        self.patch(query, &unlocked("pending")).await?;
        Ok(())
    }

    /// Returns leases older than `cutoff` to pending; which ones comes back.
    pub(crate) async fn recover(&self, cutoff: Timestamp) -> Result<Vec<Row>, RestError> {
        let query = Query::new().all(&[leased(), older(cutoff)]);
        self.patch(query, &unlocked("pending")).await
    }

    /// Changes one row if its status is still the one seen.
    pub(super) async fn patch_seen(&self, row: &Row, body: &Value) -> Result<bool, RestError> {
        let query = Query::new().eq("id", &row.id.to_string());
        let query = if row.status == "pending" {
            query.all(&[Condition::any(&[
                Condition::null("status"),
                Condition::eq("status", "pending"),
            ])])
        } else {
            query.eq("status", &row.status)
        };
        Ok(!self.patch(query, body).await?.is_empty())
    }

    pub(super) fn put_error(&self, body: &mut Value, error: &str) {
        if self.has("error_message") {
            body["error_message"] = storable_text(error).into();
        }
    }
}

/// A new status without a holder.
pub(super) fn unlocked(status: &str) -> Value {
    let mut body = Map::new();
    body.insert("status".to_owned(), status.into());
    body.insert("locked_by".to_owned(), Value::Null);
    body.insert("locked_at".to_owned(), Value::Null);
    Value::Object(body)
}
