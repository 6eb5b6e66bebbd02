//! Asking a person: a request for a permission is held open until somebody decides.
//!
//! The published SDKs repeat a refused call without end when a permission was answered `granted` and is refused again, so
//! a decision is stored before anybody hears of it. There is one question for each app and permission, however many
//! requests wait for it; a question that nobody answered in time stays, and the app's next call finds the decision.

use std::time::Duration;

use rowcall_core::AppId;
use rowcall_engine::store::Decision;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout_at},
};

use super::{error::ApiError, policy::Policy, state::Api};

/// The longest permission name, in bytes.
pub(super) const MAX_NAME: usize = 100;

/// The most permissions of one request.
pub(super) const MAX_AT_ONCE: usize = 100;

/// How many requests may wait for decisions at once.
const MAX_WAITING: usize = 256;

/// How often the store is looked at while requests wait: decisions of the command line come that way.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Who waits for decisions, and what was decided in advance.
#[derive(Debug)]
pub(super) struct Broker {
    policy: Policy,
    /// How long a request is held. Python clients give up after 60 s.
    patience: Duration,
    decided: Notify,
    waiting: Semaphore,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Decided(Decision),
    /// Nobody has decided in time, or the question was dismissed.
    Open,
}

impl Broker {
    pub(super) fn new(policy: Policy, patience: Duration) -> Self {
        Self {
            policy,
            patience,
            decided: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Wakes requests that wait.
    pub(super) fn tell(&self) {
        self.decided.notify_waiters();
    }
}

impl Api {
    /// What was decided, by a person or in advance. A decision of the policy is stored the first time.
    pub(super) async fn decision(
        &self,
        app: &AppId,
        permission: &str,
    ) -> Result<Option<Decision>, ApiError> {
        if let Some(decision) = self.directory().decision(app, permission)? {
            return Ok(Some(decision));
        }
        let Some(decision) = self.broker().policy.decide(app, permission) else {
            return Ok(None);
        };
        self.decide(app, permission, decision, "policy").await?;
        Ok(Some(decision))
    }

    /// Stores a decision and tells who waits for it. `false` when there is no such app.
    pub(super) async fn decide(
        &self,
        app: &AppId,
        permission: &str,
        decision: Decision,
        by: &str,
    ) -> Result<bool, ApiError> {
        let (app, permission, by) = (app.clone(), permission.to_owned(), by.to_owned());
        let now = self.now();
        let done = self
            .store(move |store| store.decide(&app, &permission, decision, &by, now))
            .await?;
        self.broker().tell();
        Ok(done)
    }

    /// Asks for permissions, each once, and waits until all are decided or patience ends.
    pub(super) async fn ask(
        &self,
        app: &AppId,
        asked_as: &str,
        permissions: &[String],
    ) -> Result<Vec<Answer>, ApiError> {
        let mut open = false;
        for permission in permissions {
            if self.decision(app, permission).await?.is_none() {
                let (app, permission) = (app.clone(), permission.clone());
                let (asked_as, now) = (asked_as.to_owned(), self.now());
                let room = self
                    .store(move |store| store.ask(&app, &permission, &asked_as, now))
                    .await?;
                if !room {
                    return Err(ApiError::invalid(
                        "This app has asked for too many permissions; `rowcall permissions reset` forgets them",
                    ));
                }
                open = true;
            }
        }
        if open {
            tracing::info!(app.id = %app, ?permissions, "an app asks for permissions: answer with `rowcall permissions`");
            self.wait(app, permissions).await?;
        }
        let mut answers = Vec::with_capacity(permissions.len());
        for permission in permissions {
            let decision = self.directory().decision(app, permission)?;
            answers.push(decision.map_or(Answer::Open, Answer::Decided));
        }
        Ok(answers)
    }

    async fn wait(&self, app: &AppId, permissions: &[String]) -> Result<(), ApiError> {
        let broker = self.broker();
        let Ok(_place) = broker.waiting.try_acquire() else {
            return Ok(());
        };
        let deadline = Instant::now() + broker.patience;
        loop {
            let decided = broker.decided.notified();
            if !self.is_open(app, permissions).await? || Instant::now() >= deadline {
                return Ok(());
            }
            let next = deadline.min(Instant::now() + LOOK_EVERY);
            tokio::select! {
                () = self.stop().cancelled() => return Ok(()),
                // Time-outs and decisions both mean: look again.
                _ = timeout_at(next, decided) => {}
            }
        }
    }

    /// Whether any of these questions still waits: neither decided nor dismissed.
    async fn is_open(&self, app: &AppId, permissions: &[String]) -> Result<bool, ApiError> {
        let prompts = self.store(rowcall_engine::store::Store::prompts).await?;
        Ok(prompts
            .iter()
            .any(|prompt| prompt.app == app.as_str() && permissions.contains(&prompt.permission)))
    }
}
