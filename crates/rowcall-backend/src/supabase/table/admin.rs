//! What people do with tasks, whoever holds them.

use rowcall_core::{TaskId, TaskState, ports::AdminOutcome};
use serde_json::{Value, json};

use super::{Row, Table, write::unlocked};
use crate::supabase::error::RestError;

/// How often a request is judged anew when the task changes under it.
const TRIES: u32 = 3;

impl Table {
    /// Makes a task pending again and forgets who tried it.
    pub(crate) async fn admin_retry(&self, id: &TaskId) -> Result<AdminOutcome, RestError> {
        let applies = |row: &Row, state| match state {
            TaskState::Failed | TaskState::Canceled => true,
            TaskState::Pending => row.retry_count() > 0 || !row.attempted_by().is_empty(),
            _ => false,
        };
        let mut body = unlocked("pending");
        for (column, value) in [
            ("attempted_by", json!([])),
            ("retry_count", json!(0)),
            ("retry_at", Value::Null),
        ] {
            if self.has(column) {
                body[column] = value;
            }
        }
        self.administer(id, applies, &body).await
    }

    /// Takes a task from its holder.
    pub(crate) async fn admin_release(&self, id: &TaskId) -> Result<AdminOutcome, RestError> {
        let applies = |_: &Row, state: TaskState| state.is_leased();
        self.administer(id, applies, &unlocked("pending")).await
    }

    /// Calls a task off.
    pub(crate) async fn admin_cancel(
        &self,
        id: &TaskId,
        reason: &str,
    ) -> Result<AdminOutcome, RestError> {
        let applies = |_: &Row, state: TaskState| !state.is_final();
        let mut body = unlocked("canceled");
        self.put_error(&mut body, reason);
        self.administer(id, applies, &body).await
    }

    /// Looks at the row, judges, and writes if the row is still as it was seen. A status word that we do not know is anybody's
    /// to mend.
    async fn administer(
        &self,
        id: &TaskId,
        applies: impl Fn(&Row, TaskState) -> bool + Send,
        body: &Value,
    ) -> Result<AdminOutcome, RestError> {
        for _ in 0..TRIES {
            let Some(row) = self.find(id).await? else {
                return Ok(AdminOutcome::NotFound);
            };
            match row.state() {
                Some(state) if !applies(&row, state) => {
                    return Ok(AdminOutcome::NotApplicable(state));
                }
                _ if self.patch_seen(&row, body).await? => return Ok(AdminOutcome::Done),
                _ => {}
            }
        }
        Err(RestError::Denied)
    }
}
