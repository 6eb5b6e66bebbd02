//! From a claimed task to a running agent.

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use rowcall_core::{
    AgentError, AgentErrorKind, AppId, Lease, LeaseKey, Task, agent::AgentKind, ports::RunContext,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{SourceLoop, timers::sooner};
use crate::{
    admission::Permit,
    apps::AgentRoute,
    bus::What,
    group::catch_panic,
    store::{Record, Seen, Started},
    unit::{Phase, Unit},
    unit_log::UnitLog,
};

/// What a runner may take beyond its agent's time-out to end it by itself, before the engine counts it as timed out.
const RUNNER_MARGIN: Duration = Duration::from_secs(15);

/// A claimed task with its place and its handler.
pub(super) struct Start<'a> {
    pub(super) lease: Lease,
    pub(super) task: Task,
    pub(super) app: &'a AppId,
    pub(super) route: &'a AgentRoute,
    pub(super) permit: Permit,
    /// When the claim was sent.
    pub(super) sent: Instant,
}

impl SourceLoop {
    /// Starts the agent of a claimed task.
    pub(super) fn start(&mut self, start: Start<'_>) {
        let Start {
            lease,
            task,
            app,
            route,
            permit,
            sent,
        } = start;
        let key = lease.key().clone();
        if let Some(older) = self.units.find(&key.task) {
            self.lose_to_newer(older);
        }
        self.tell_started(&key, &task, app, route);
        self.arm_timers(sent, route);
        let margin = match route.agent.kind {
            AgentKind::InProcess => Duration::ZERO,
            AgentKind::Process(_) | AgentKind::Worker { .. } | AgentKind::Http { .. } => {
                RUNNER_MARGIN
            }
        };
        let task = Arc::new(task);
        let (stop, reported) = (CancellationToken::new(), CancellationToken::new());
        let id = self.units.insert(Unit {
            lease,
            task: Arc::clone(&task),
            app: app.clone(),
            agent: Arc::clone(&route.agent),
            permit: Some(permit),
            stop: stop.clone(),
            reported: reported.clone(),
            since: self.wall,
            claimed: sent,
            renewed: sent,
            deadline: sent + route.agent.timeout.saturating_add(margin),
            marked: false,
            phase: Phase::Running,
            presumed: false,
            abort: None,
            abort_at: None,
            waiters: Vec::new(),
            releasers: Vec::new(),
        });
        let context = RunContext {
            log: Arc::new(UnitLog {
                shared: Arc::clone(&self.shared),
                source: Arc::clone(&self.source.name),
                task: key.task.clone(),
                attempt: key.attempt,
                events: AtomicU32::new(0),
            }),
            lease: key,
            task,
            app: app.clone(),
            agent: Arc::clone(&route.agent),
            reported,
        };
        let shared = Arc::clone(&self.shared);
        let abort = self.agents.spawn(async move {
            let result = catch_panic(async { shared.runner.run(context, stop).await }).await;
            let result = result.unwrap_or_else(|panic| {
                shared.counters.panics.add(1);
                Err(AgentError::new(
                    AgentErrorKind::Failed,
                    format!("the agent's runner panicked: {panic}"),
                ))
            });
            (id, result)
        });
        if let Some(unit) = self.units.get_mut(id) {
            unit.abort = Some(abort);
        }
    }

    fn tell_started(&mut self, key: &LeaseKey, task: &Task, app: &AppId, route: &AgentRoute) {
        self.happened.push(What::Claimed {
            task: key.task.clone(),
            attempt: key.attempt,
            app: app.clone(),
        });
        self.happened.push(What::Started {
            task: key.task.clone(),
            attempt: key.attempt,
            app: app.clone(),
            agent: route.agent.id.clone(),
        });
        self.record(|this| {
            Record::Started(Box::new(Started {
                seen: Seen {
                    task: key.task.clone(),
                    source: task.source.clone(),
                    event: task.event,
                    app: app.clone(),
                    agent: route.agent.id.clone(),
                    trigger: route.trigger,
                    at: this.wall,
                },
                attempt: key.attempt,
                machine: key.machine.clone(),
            }))
        });
    }

    fn arm_timers(&mut self, sent: Instant, route: &AgentRoute) {
        let (options, lease) = (&self.shared.options, self.rules.lease);
        let first = options.mark_processing_after.min(route.agent.timeout);
        sooner(&mut self.timers.scan, sent + first);
        sooner(&mut self.timers.heartbeat, sent + lease.renew_every);
        sooner(&mut self.timers.expiry, sent + lease.ttl);
    }
}
