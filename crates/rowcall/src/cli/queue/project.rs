//! Commands on the queues of a project, with nothing but its URL and a key: what AIMQ's commands do over the same functions.

use rowcall_backend::queue::{Broadcast, ListedQueue, Mode, QueueError, QueueName, QueueProject};

use super::{realtime::Realtime, user};
use crate::{config::Config, exit::Exit, output};

/// Makes a queue.
pub(super) async fn create(
    project: &QueueProject,
    name: &QueueName,
    broadcast: Option<&Broadcast>,
) -> anyhow::Result<Exit> {
    plain(broadcast)?;
    project.create(name, broadcast).await.map_err(user)?;
    match broadcast {
        Some(one) => output::note(format_args!(
            "{name} is there, with wake-ups on the channel {}",
            one.channel
        )),
        None => output::note(format_args!("{name} is there")),
    }
    Ok(Exit::Success)
}

/// Lists queues.
pub(super) async fn list(project: &QueueProject, json: bool) -> anyhow::Result<Exit> {
    let queues = project.list().await.map_err(user)?;
    if json {
        output::json(&queues)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = queues.iter().map(row).collect();
    output::table(["QUEUE", "LENGTH", "OLDEST s", "TOTAL", "REALTIME"], &rows)?;
    Ok(Exit::Success)
}

fn row(one: &ListedQueue) -> [String; 5] {
    let oldest = one.oldest_msg_age_sec;
    [
        output::shorten(&one.queue_name, super::MAX_SHOWN),
        one.queue_length.to_string(),
        oldest.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string()),
        one.total_messages.to_string(),
        if one.realtime_enabled { "on" } else { "-" }.to_owned(),
    ]
}

/// Switches broadcasts.
pub(super) async fn realtime(
    project: &QueueProject,
    config: &Config,
    command: Realtime,
) -> anyhow::Result<Exit> {
    let (which, broadcast) = match command {
        Realtime::Enable { which, channel, .. } => (which, Some(channel.broadcast(config))),
        Realtime::Disable { which, .. } => (which, None),
        Realtime::Status { json } => return list(project, json).await,
    };
    plain(broadcast.as_ref())?;
    let names = match which.named() {
        Some(names) => names,
        None => {
            let all = project.list().await.map_err(user)?;
            all.iter()
                .filter_map(|one| QueueName::new(&one.queue_name).ok())
                .collect()
        }
    };
    for name in names {
        let set = project.set_broadcast(&name, broadcast.as_ref()).await;
        set.map_err(user)?;
        match &broadcast {
            Some(one) => output::note(format_args!(
                "{name} broadcasts {} on {}",
                one.event, one.channel
            )),
            None => output::note(format_args!("{name} broadcasts nothing")),
        }
    }
    Ok(Exit::Success)
}

/// AIMQ's functions know a channel and an event, nothing more.
fn plain(broadcast: Option<&Broadcast>) -> anyhow::Result<()> {
    let fancy = |one: &Broadcast| one.private || one.per_row || one.mode != Mode::Every;
    if broadcast.is_some_and(fancy) {
        return Err(user(QueueError::NeedsDatabase {
            doing: "a private, gated or per-row broadcast",
        }));
    }
    Ok(())
}
