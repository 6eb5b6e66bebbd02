//! Writing activities from events, where no trigger does it.

use futures_util::FutureExt;
use rowcall_realtime::channel::{Backoff, Change};
use tokio::time::sleep;

use super::{PLAN_BACKOFF, dispatch::Dispatch};
use crate::supabase::capture::{Captured, is_worth_another_try};

/// Tries to write one activity.
const CAPTURE_TRIES: u32 = 6;

impl Dispatch<'_> {
    pub(super) fn capture(&self, change: &Change) {
        let Some(activities) = self.plan.activities.clone() else {
            return;
        };
        let Some(captured) = Captured::new(change, &self.wanted.borrow().selectors) else {
            return;
        };
        let rest = self.inner.rest.clone();
        let write = async move {
            let call = captured.call(&activities);
            let mut backoff = Backoff::new(PLAN_BACKOFF.0, PLAN_BACKOFF.1);
            for _ in 0..CAPTURE_TRIES {
                match rest.send(&call).await {
                    Ok(_) => return,
                    Err(error) if is_worth_another_try(&error) => {
                        sleep(backoff.fail(rand::random())).await;
                    }
                    Err(error) => {
                        let error = error.during("write an activity");
                        tracing::error!(%error, activity = %captured.id, "an event was not captured");
                        return;
                    }
                }
            }
            tracing::error!(activity = %captured.id, "an event was not captured: the project did not answer");
        };
        self.capturing.push(write.boxed());
    }
}
