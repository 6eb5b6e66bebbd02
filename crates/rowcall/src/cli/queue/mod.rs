//! `rowcall queue`

mod chat;
mod init;
mod migration;
mod project;
mod realtime;
mod schema;
mod watch;

use std::time::Duration;

use clap::Subcommand;
use rowcall_backend::queue::{
    Database, Install, Kind, Message, Metrics, QueueError, QueueName, QueueStore, install,
};
use rowcall_core::Payload;

use self::{
    chat::Chat,
    init::Init,
    migration::Folder,
    realtime::{Channel, Realtime},
    schema::Schema,
};
use super::Context;
use crate::{
    config::Config,
    daemon::QueuePlace,
    exit::{Exit, UserError},
    output,
};

/// Connections of one command.
const CONNECTIONS: usize = 1;
/// How much of a message a table shows, in characters.
const MAX_SHOWN: usize = 80;

/// Queues of pgmq.
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// Make a queue, with wake-ups; installs pgmq where it is missing
    Create {
        /// Its name
        name: QueueName,
        /// Faster, and empty after a crash of the database
        #[arg(long)]
        unlogged: bool,
        /// In partitions; needs the extension `pg_partman`
        #[arg(long, conflicts_with = "unlogged")]
        partitioned: bool,
        /// Do not broadcast sends over Realtime
        #[arg(long)]
        no_realtime: bool,
        /// What is broadcast, and where
        #[command(flatten)]
        channel: Channel,
        /// Write migration files instead of changing the database
        #[command(flatten)]
        folder: Folder,
    },
    /// List queues: how full they are, and whether they wake workers
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show queues and workers live, until Ctrl-C
    Watch(watch::Watch),
    /// Drop a queue and its archive
    Drop {
        /// Its name
        name: QueueName,
        /// Even when there are messages in it
        #[arg(long)]
        force: bool,
    },
    /// Delete every message of a queue, not its archive
    Purge {
        /// Its name
        name: QueueName,
    },
    /// Send a message, and print its id
    Send {
        /// The queue
        name: QueueName,
        /// The message as JSON; - reads it from standard input
        message: String,
        /// Hide it for so many seconds
        #[arg(long, short, value_name = "SECONDS", default_value_t = 0)]
        delay: u32,
    },
    /// Show messages; nothing changes unless --timeout says for how long they are to be hidden
    Read {
        /// The queue
        name: QueueName,
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Read them as a worker does: hidden for so many seconds, and the attempt counts
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u32>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how full queues are
    Metrics {
        /// Only this queue
        name: Option<QueueName>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Switch the broadcasts of queues, and see how they stand
    #[command(subcommand)]
    Realtime(Realtime),
    /// Send messages to a queue and print what comes back on another
    Chat(Chat),
    /// Start a folder for a worker; files that are there stay as they are
    Init(Init),
    /// Expose queues in the Data API of a local Supabase project, or hide them
    #[command(subcommand)]
    Schema(Schema),
    /// Write the migration file that installs pgmq and the wake-ups
    Migration {
        /// Where to
        #[command(flatten)]
        folder: Folder,
    },
}

impl Queue {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<Exit> {
        context.use_aimq_database();
        match self {
            Self::Migration { folder } => return migration::setup(&folder),
            Self::Watch(watch) => return watch.run(&context).await,
            Self::Init(init) => return init.run(),
            Self::Schema(schema) => return schema.run(),
            Self::Create {
                name,
                no_realtime,
                channel,
                folder,
                unlogged: false,
                partitioned: false,
            } if folder.is_wanted() => {
                let broadcast = (!no_realtime).then(|| channel.broadcast(&context.config));
                return migration::create(&folder, &name, broadcast.as_ref());
            }
            Self::Create { folder, .. } if folder.is_wanted() => {
                return Err(UserError::new(
                    Exit::Usage,
                    "migration files make plain queues only: write --unlogged or --partitioned ones by hand",
                )
                .into());
            }
            Self::Realtime(realtime) if realtime.is_migration() => {
                return realtime.write(&context.config);
            }
            _ => {}
        }
        let place = QueuePlace::of(&context.config).await?;
        // Ctrl-C must not leave a server without its command.
        let done = tokio::select! {
            done = self.at(&context.config, &place) => done,
            signal = tokio::signal::ctrl_c() => {
                Err(signal.err().map_or_else(|| anyhow::anyhow!("interrupted"), anyhow::Error::from))
            }
        };
        place.close().await;
        done
    }

    async fn at(self, config: &Config, place: &QueuePlace) -> anyhow::Result<Exit> {
        match (self, place) {
            (Self::Chat(chat), place) => {
                let store = match place {
                    QueuePlace::Database(database) => {
                        let database = Database::new(&database.url, CONNECTIONS).map_err(user)?;
                        QueueStore::new(database)
                    }
                    QueuePlace::Project(project, _) => QueueStore::of_project(project.clone()),
                };
                chat.run(config, place, store).await
            }
            (command, QueuePlace::Database(database)) => {
                let database = Database::new(&database.url, CONNECTIONS).map_err(user)?;
                command.in_database(config, database).await
            }
            (Self::List { json }, QueuePlace::Project(project, _)) => {
                project::list(project, json).await
            }
            (Self::Realtime(realtime), QueuePlace::Project(project, _)) => {
                project::realtime(project, config, realtime).await
            }
            (
                Self::Create {
                    name,
                    unlogged: false,
                    partitioned: false,
                    no_realtime,
                    channel,
                    ..
                },
                QueuePlace::Project(project, _),
            ) => {
                let broadcast = (!no_realtime).then(|| channel.broadcast(config));
                project::create(project, &name, broadcast.as_ref()).await
            }
            (Self::Create { .. }, QueuePlace::Project(..)) => {
                Err(user(QueueError::NeedsDatabase {
                    doing: "creating a queue of another kind",
                }))
            }
            (command, QueuePlace::Project(project, _)) => {
                command.on(&QueueStore::of_project(project.clone())).await
            }
        }
    }

    async fn in_database(self, config: &Config, database: Database) -> anyhow::Result<Exit> {
        let store = QueueStore::new(database.clone());
        match self {
            Self::Create {
                name,
                unlogged,
                partitioned,
                no_realtime,
                channel,
                ..
            } => {
                install(&database, Install::default()).await.map_err(user)?;
                let kind = match (unlogged, partitioned) {
                    (true, _) => Kind::Unlogged,
                    (_, true) => Kind::Partitioned,
                    _ => Kind::Logged,
                };
                store.create(&name, kind).await.map_err(user)?;
                store.enable_wake(&name).await.map_err(user)?;
                if no_realtime {
                    output::note(format_args!(
                        "{name} is there, with wake-ups by the database"
                    ));
                    return Ok(Exit::Success);
                }
                let broadcast = channel.broadcast(config);
                store
                    .enable_broadcast(&name, &broadcast)
                    .await
                    .map_err(user)?;
                output::note(format_args!(
                    "{name} is there, with wake-ups by the database and on the channel {}",
                    broadcast.channel
                ));
                Ok(Exit::Success)
            }
            Self::Realtime(realtime) => realtime.run(config, &database, &store).await,
            command => command.on(&store).await,
        }
    }

    /// What is the same wherever the queues are.
    async fn on(self, store: &QueueStore) -> anyhow::Result<Exit> {
        match self {
            Self::List { json } => return list(store, json).await,
            Self::Drop { name, force } => return drop_queue(store, &name, force).await,
            Self::Purge { name } => {
                let gone = store.purge(&name).await.map_err(user)?;
                output::note(format_args!("deleted {gone} messages of {name}"));
            }
            Self::Send {
                name,
                message,
                delay,
            } => {
                let message = payload(message)?;
                let delay = Duration::from_secs(delay.into());
                let id = store.send(&name, &message, delay).await.map_err(user)?;
                output::line(id)?;
            }
            Self::Read {
                name,
                limit,
                timeout,
                json,
            } => {
                let read = match timeout {
                    Some(seconds) => {
                        let hidden = Duration::from_secs(seconds.into());
                        store.read(&name, hidden, limit).await
                    }
                    None => store.peek(&name, limit).await,
                };
                show(&read.map_err(user)?, json)?;
            }
            Self::Metrics { name, json } => {
                let all = match name {
                    Some(name) => vec![store.metrics(&name).await.map_err(user)?],
                    None => store.metrics_all().await.map_err(user)?,
                };
                metrics(&all, json)?;
            }
            Self::Create { .. }
            | Self::Realtime(_)
            | Self::Chat(_)
            | Self::Init(_)
            | Self::Schema(_)
            | Self::Watch(_)
            | Self::Migration { .. } => unreachable!("done before"),
        }
        Ok(Exit::Success)
    }
}

/// An error of the queues as people see it.
fn user(error: QueueError) -> anyhow::Error {
    let (exit, help) = match &error {
        QueueError::Missing(_) => (Exit::NotFound, "`rowcall queue list` shows what there is"),
        QueueError::NotInstalled => (
            Exit::NotFound,
            "`rowcall queue create NAME` installs it with the first queue",
        ),
        QueueError::NeedsDatabase { .. } => {
            (Exit::Usage, "a project's URL and key alone do not allow it")
        }
        QueueError::Name(_) => (Exit::Usage, "letters, digits, - and _ are always fine"),
        _ => (Exit::Database, "`rowcall doctor` looks closer"),
    };
    UserError::of(exit, &error).help(help).into()
}

fn payload(text: String) -> anyhow::Result<Payload> {
    let text = if text == "-" {
        super::context::read_file(std::path::Path::new("-"))?
    } else {
        text
    };
    Payload::from_text(text).map_err(|error| {
        UserError::new(Exit::Usage, format!("the message is not JSON: {error}"))
            .help("quote it for the shell: '{\"n\": 1}'")
            .into()
    })
}

async fn list(store: &QueueStore, json: bool) -> anyhow::Result<Exit> {
    let queues = store.list().await.map_err(user)?;
    let metrics = store.metrics_all().await.map_err(user)?;
    let wakes = store.wake_status().await.map_err(user)?;
    let full = |name: &str| metrics.iter().find(|one| one.queue_name == name);
    let wake = |name: &str| wakes.iter().find(|one| one.queue_name == name);
    if json {
        let all: Vec<_> = queues
            .iter()
            .map(|queue| {
                serde_json::json!({ "queue": queue, "metrics": full(&queue.name), "wake": wake(&queue.name) })
            })
            .collect();
        output::json(&all)?;
        return Ok(Exit::Success);
    }
    let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let rows: Vec<_> = queues
        .iter()
        .map(|queue| {
            let (full, wake) = (full(&queue.name), wake(&queue.name));
            let broadcast = wake.and_then(|wake| wake.broadcast.as_ref());
            [
                output::shorten(&queue.name, MAX_SHOWN),
                number(full.map(|full| full.queue_length)),
                number(full.map(|full| full.queue_visible_length)),
                number(full.and_then(|full| full.oldest_msg_age_sec).map(i64::from)),
                number(full.map(|full| full.total_messages)),
                if wake.is_some_and(|wake| wake.direct) {
                    "on"
                } else {
                    "-"
                }
                .to_owned(),
                broadcast.map_or_else(|| "-".to_owned(), |one| one.channel.clone()),
            ]
        })
        .collect();
    let heading = [
        "QUEUE", "LENGTH", "VISIBLE", "OLDEST s", "TOTAL", "WAKES", "REALTIME",
    ];
    output::table(heading, &rows)?;
    Ok(Exit::Success)
}

async fn drop_queue(store: &QueueStore, name: &QueueName, force: bool) -> anyhow::Result<Exit> {
    if !force {
        let full = store.metrics(name).await.map_err(user)?;
        if full.queue_length > 0 {
            return Err(UserError::new(
                Exit::Failure,
                format!("{name} holds {} messages", full.queue_length),
            )
            .help("handle or purge them first, or add --force")
            .into());
        }
    }
    if !store.drop(name).await.map_err(user)? {
        return Err(user(QueueError::Missing(name.clone())));
    }
    output::note(format_args!("dropped {name} and its archive"));
    Ok(Exit::Success)
}

fn show(messages: &[Message], json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(output::json(&messages)?);
    }
    let rows: Vec<_> = messages
        .iter()
        .map(|one| {
            [
                one.msg_id.to_string(),
                one.read_ct.to_string(),
                one.enqueued_at.to_string(),
                one.vt.to_string(),
                output::shorten(one.message.get(), MAX_SHOWN),
            ]
        })
        .collect();
    Ok(output::table(
        ["ID", "READ", "SENT", "VISIBLE AT", "MESSAGE"],
        &rows,
    )?)
}

fn metrics(all: &[Metrics], json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(output::json(&all)?);
    }
    let age = |seconds: Option<i32>| seconds.map_or_else(|| "-".to_owned(), |s| s.to_string());
    let rows: Vec<_> = all
        .iter()
        .map(|one| {
            [
                output::shorten(&one.queue_name, MAX_SHOWN),
                one.queue_length.to_string(),
                one.queue_visible_length.to_string(),
                age(one.newest_msg_age_sec),
                age(one.oldest_msg_age_sec),
                one.total_messages.to_string(),
            ]
        })
        .collect();
    let heading = [
        "QUEUE", "LENGTH", "VISIBLE", "NEWEST s", "OLDEST s", "TOTAL",
    ];
    Ok(output::table(heading, &rows)?)
}
