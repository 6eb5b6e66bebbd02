//! `rowcall queue realtime`

use clap::{Args, Subcommand};
use rowcall_backend::queue::{
    Broadcast, Database, Install, Mode, QueueName, QueueStore, WakeStatus, install,
};

use super::{
    migration::{self, Folder},
    user,
};
use crate::{
    config::Config,
    exit::{Exit, UserError},
    output,
};

/// What a queue broadcasts, and where.
#[derive(Clone, Debug, Args)]
pub struct Channel {
    /// The Realtime channel; `worker.realtime.channel` when absent
    #[arg(long = "channel", short = 'c', value_name = "CHANNEL")]
    topic: Option<String>,
    /// The event; `worker.realtime.event` when absent
    #[arg(long, short, value_name = "EVENT")]
    event: Option<String>,
    /// Only for those whom policies on `realtime.messages` let in
    #[arg(long)]
    private: bool,
    /// At most one broadcast in so many milliseconds: for high rates
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u16).range(1..=60_000))]
    gate: Option<u16>,
    /// One broadcast per message instead of one per statement
    #[arg(long)]
    per_row: bool,
}

impl Channel {
    pub(super) fn broadcast(&self, config: &Config) -> Broadcast {
        let realtime = &config.worker.realtime;
        Broadcast {
            channel: self
                .topic
                .clone()
                .unwrap_or_else(|| realtime.channel.clone()),
            event: self.event.clone().unwrap_or_else(|| realtime.event.clone()),
            private: self.private || realtime.private,
            mode: self.gate.map_or(Mode::Every, Mode::Gated),
            per_row: self.per_row,
        }
    }
}

/// Which queues.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// The queues
    #[arg(required_unless_present = "all")]
    names: Vec<QueueName>,
    /// Every queue of the database
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

/// The broadcasts of queues.
#[derive(Debug, Subcommand)]
pub enum Realtime {
    /// Broadcast sends over Realtime, so that workers wake at once
    Enable {
        /// Which queues
        #[command(flatten)]
        which: Which,
        /// What is broadcast, and where
        #[command(flatten)]
        channel: Channel,
        /// Write migration files instead of changing the database
        #[command(flatten)]
        folder: Folder,
    },
    /// Stop broadcasting
    Disable {
        /// Which queues
        #[command(flatten)]
        which: Which,
        /// Write migration files instead of changing the database
        #[command(flatten)]
        folder: Folder,
    },
    /// Show which queues wake workers, and how
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Realtime {
    pub(super) fn is_migration(&self) -> bool {
        match self {
            Self::Enable { folder, .. } | Self::Disable { folder, .. } => folder.is_wanted(),
            Self::Status { .. } => false,
        }
    }

    /// Writes migration files.
    pub(super) fn write(self, config: &Config) -> anyhow::Result<Exit> {
        let (which, folder, broadcast) = match self {
            Self::Enable {
                which,
                channel,
                folder,
            } => (which, folder, Some(channel.broadcast(config))),
            Self::Disable { which, folder } => (which, folder, None),
            Self::Status { .. } => return Ok(Exit::Success),
        };
        if which.all {
            return Err(UserError::new(
                Exit::Usage,
                "--migration needs the names of the queues: no database is asked",
            )
            .into());
        }
        migration::broadcasts(&folder, &which.names, broadcast.as_ref())
    }

    pub(super) async fn run(
        self,
        config: &Config,
        database: &Database,
        store: &QueueStore,
    ) -> anyhow::Result<Exit> {
        match self {
            Self::Enable { which, channel, .. } => {
                install(database, Install::default()).await.map_err(user)?;
                let broadcast = channel.broadcast(config);
                for name in which.of(store).await? {
                    store.enable_wake(&name).await.map_err(user)?;
                    store
                        .enable_broadcast(&name, &broadcast)
                        .await
                        .map_err(user)?;
                    output::note(format_args!(
                        "{name} broadcasts {} on {}",
                        broadcast.event, broadcast.channel
                    ));
                }
            }
            Self::Disable { which, .. } => {
                for name in which.of(store).await? {
                    store.disable_broadcast(&name).await.map_err(user)?;
                    output::note(format_args!("{name} broadcasts nothing"));
                }
            }
            Self::Status { json } => {
                let all = store.wake_status().await.map_err(user)?;
                if json {
                    output::json(&all)?;
                } else {
                    let rows: Vec<_> = all.iter().map(row).collect();
                    let heading = ["QUEUE", "DIRECT", "CHANNEL", "EVENT", "MODE"];
                    output::table(heading, &rows)?;
                }
            }
        }
        Ok(Exit::Success)
    }
}

impl Which {
    /// The names, unless it is all.
    pub(super) fn named(self) -> Option<Vec<QueueName>> {
        (!self.all).then_some(self.names)
    }

    async fn of(self, store: &QueueStore) -> anyhow::Result<Vec<QueueName>> {
        if !self.all {
            return Ok(self.names);
        }
        let all = store.list().await.map_err(user)?;
        Ok(all
            .iter()
            .filter_map(|queue| QueueName::new(&queue.name).ok())
            .collect())
    }
}

fn row(status: &WakeStatus) -> [String; 5] {
    let (channel, event, mode) = match &status.broadcast {
        None if status.foreign_trigger => ("?".into(), "?".into(), "a trigger of AIMQ's".into()),
        None => ("-".into(), "-".into(), "-".into()),
        Some(one) => {
            let mut mode = match one.mode {
                Mode::Every => "every".to_owned(),
                Mode::Gated(ms) => format!("gated {ms} ms"),
            };
            for (word, on) in [("private", one.private), ("per row", one.per_row)] {
                if on {
                    mode.push_str(", ");
                    mode.push_str(word);
                }
            }
            (one.channel.clone(), one.event.clone(), mode)
        }
    };
    [
        output::shorten(&status.queue_name, 60),
        if status.direct { "on" } else { "-" }.to_owned(),
        channel,
        event,
        mode,
    ]
}
