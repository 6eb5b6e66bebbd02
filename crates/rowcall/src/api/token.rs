//! Tokens that agents get with their task: who has one reports on exactly that attempt.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac as _};
use rowcall_core::{LeaseKey, TaskId};
use rowcall_engine::store::{Store, StoreError};
use sha2::Sha256;

/// The variable that agents find their token in.
pub const TASK_TOKEN_VARIABLE: &str = "ROWCALL_TASK_TOKEN";

/// The header that reports carry it in.
pub const TASK_TOKEN_HEADER: &str = "x-rowcall-task-token";

/// What tokens begin with.
const PREFIX: &str = "rct";

/// Makes and checks the tokens of attempts. They are derived from one secret of this machine, so they outlive a restart of
/// the daemon as their agents do, and nothing has to be stored for each.
#[derive(Clone)]
pub struct TaskTokens {
    secret: String,
}

impl std::fmt::Debug for TaskTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskTokens").finish_non_exhaustive()
    }
}

impl TaskTokens {
    /// With the secret of this machine, made the first time.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let secret = store.setting("task-token-secret", &super::session::secret(""))?;
        Ok(Self { secret })
    }

    /// What an attempt's agent finds in its environment.
    pub fn variables(&self, lease: &LeaseKey) -> BTreeMap<String, String> {
        let token = self.make(&lease.task.id, lease.attempt);
        BTreeMap::from([(TASK_TOKEN_VARIABLE.to_owned(), token)])
    }

    fn make(&self, task: &TaskId, attempt: u32) -> String {
        let mac = hex::encode(self.mac(task, attempt).finalize().into_bytes());
        format!("{PREFIX}_{attempt}_{mac}")
    }

    /// The attempt that a token is for; `None` when it is not one for this task.
    pub fn attempt(&self, task: &TaskId, token: &str) -> Option<u32> {
        let mut parts = token.split('_');
        let (prefix, attempt, mac) = (parts.next()?, parts.next()?, parts.next()?);
        let attempt: u32 = attempt.parse().ok()?;
        let mac = hex::decode(mac).ok()?;
        // Compared in constant time.
        let genuine = self.mac(task, attempt).verify_slice(&mac).is_ok();
        (genuine && prefix == PREFIX && parts.next().is_none()).then_some(attempt)
    }

    fn mac(&self, task: &TaskId, attempt: u32) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(format!("{attempt} {task}").as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_one_attempt_of_one_task() {
        let tokens = TaskTokens { secret: "s".into() };
        let task = |text: &str| text.parse::<TaskId>().unwrap();
        let token = tokens.make(&task("a"), 2);
        assert_eq!(tokens.attempt(&task("a"), &token), Some(2));
        assert_eq!(tokens.attempt(&task("b"), &token), None);
        let forged = token.replacen("_2_", "_3_", 1);
        assert_eq!(tokens.attempt(&task("a"), &forged), None);
        for bad in [
            "",
            "rct",
            "rct_2_",
            "rct_2_zz",
            "rct_x_00",
            &format!("{token}_"),
        ] {
            assert_eq!(tokens.attempt(&task("a"), bad), None, "{bad}");
        }
        let other = TaskTokens { secret: "t".into() };
        assert_eq!(other.attempt(&task("a"), &token), None);
    }
}
