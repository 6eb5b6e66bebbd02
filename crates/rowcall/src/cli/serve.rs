//! Running until a signal: what `up`, `worker` and `demo --keep` have in common.

use rowcall_engine::{EngineHandle, StopSummary};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    daemon::{Daemon, WorkerDaemon},
    exit::Exit,
};

/// The signals that stop a daemon; listened to before anything is started.
pub(super) struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next signal. Cancel-safe.
    pub(super) async fn signaled(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Something that runs an engine.
pub(super) trait Serving {
    /// A handle to the engine.
    fn engine(&self) -> &EngineHandle;
    /// Waits until it has failed for good, and says how.
    async fn failed(&self) -> String;
    /// Stops softly.
    async fn stop(self) -> anyhow::Result<StopSummary>;
}

const ENGINE_FAILED: &str = "the engine has stopped by itself";

impl Serving for Daemon {
    fn engine(&self) -> &EngineHandle {
        Self::engine(self)
    }

    async fn failed(&self) -> String {
        match Self::failed(self).await {
            Some(error) => format!("PostgreSQL has failed: {error}"),
            None => ENGINE_FAILED.to_owned(),
        }
    }

    async fn stop(self) -> anyhow::Result<StopSummary> {
        Self::stop(self).await
    }
}

impl Serving for WorkerDaemon {
    fn engine(&self) -> &EngineHandle {
        Self::engine(self)
    }

    async fn failed(&self) -> String {
        Self::failed(self).await;
        ENGINE_FAILED.to_owned()
    }

    async fn stop(self) -> anyhow::Result<StopSummary> {
        Self::stop(self).await
    }
}

/// Runs until a signal, or until something fails for good. The first signal stops softly, the second one hard.
pub(super) async fn run_until(serving: impl Serving, mut stop: Stop) -> anyhow::Result<Exit> {
    let failure = tokio::select! {
        () = stop.signaled() => None,
        failure = serving.failed() => Some(failure),
    };
    match &failure {
        None => tracing::info!("stopping: what runs may finish; signal again to stop at once"),
        Some(failure) => tracing::error!("{failure}: stopping"),
    }
    let engine = serving.engine().clone();
    let stopping = serving.stop();
    tokio::pin!(stopping);
    let summary = tokio::select! {
        summary = &mut stopping => summary,
        () = stop.signaled() => {
            tracing::warn!("stopping at once");
            engine.abort();
            stopping.await
        }
    }?;
    let counters = summary.counters;
    tracing::info!(
        completed = counters.completed,
        failed = counters.failed,
        released = counters.released,
        abandoned = summary.abandoned,
        "stopped"
    );
    Ok(if failure.is_some() {
        Exit::Failure
    } else {
        Exit::Success
    })
}
