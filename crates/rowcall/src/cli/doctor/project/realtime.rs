//! The channels of Realtime.

use std::time::Duration;

use futures_util::StreamExt as _;
use rowcall_backend::{SupabaseBackend, supabase::Project as Found};
use rowcall_core::{Signal, ports::SignalSource as _};

use super::super::Finding;

/// How long Realtime may take to let the channels in.
const REALTIME_LIMIT: Duration = Duration::from_secs(10);

/// Channels of one connection that Supabase allows.
const MAX_CHANNELS: usize = 100;

/// Whether the channels come up.
pub(super) async fn look(backend: &SupabaseBackend) -> Finding {
    let mut signals = backend.signals();
    let up = async {
        let mut last = None;
        // Nothing else can be down once nothing was said for a moment after an up.
        while let Some(signal) = signals.next().await {
            match signal {
                Signal::Up => {
                    let quiet =
                        tokio::time::timeout(Duration::from_millis(300), signals.next()).await;
                    match quiet {
                        Err(_) => return Ok(()),
                        Ok(Some(Signal::Down { reason, .. })) => last = Some(reason),
                        Ok(_) => {}
                    }
                }
                Signal::Down { reason, .. } => last = Some(reason),
                _ => {}
            }
            if let Some(reason) = &last
                && reason.contains("Unable to subscribe")
            {
                break;
            }
        }
        Err(last)
    };
    match tokio::time::timeout(REALTIME_LIMIT, up).await {
        Ok(Ok(())) => Finding::good("realtime", "every channel is joined"),
        Ok(Err(Some(reason))) => Finding::problem(
            "realtime",
            reason,
            "tasks are found by polling meanwhile; see the tables above",
        ),
        _ => Finding::problem(
            "realtime",
            format!(
                "no channel was joined within {} s",
                REALTIME_LIMIT.as_secs()
            ),
            "check that Realtime is enabled for the project, and that WebSockets pass the firewall; tasks are found by polling meanwhile",
        ),
    }
}

/// What a connection may have, and what is needed.
pub(super) fn limits(found: &Found, apps: usize) -> Finding {
    let channels = found.tables.len() + apps + 1;
    let timeout = found
        .examined
        .as_ref()
        .and_then(|one| one.statement_timeout.clone());
    let statements = timeout.map_or(String::new(), |limit| {
        format!("; statements may take {limit}")
    });
    let found =
        format!("{channels} of {MAX_CHANNELS} Realtime channels of a connection{statements}");
    if channels > MAX_CHANNELS {
        return Finding::problem(
            "limits",
            found,
            "spread the apps over several machines, or have them listen to fewer tables",
        );
    }
    Finding::good("limits", found)
}
