//! `rowcall stack`

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use clap::{Args, Subcommand};
use rowcall_core::Clock as _;
use rowcall_stack::{
    auth::Keys,
    preflight::{self, Preflight},
    realtime::{Limits, Slot},
    stack::{RealtimeSettings, Stack as Server, StackConfig, StackError, loopback},
};
use serde_json::json;

use super::{Context, connect, serve::Stop};
use crate::{
    daemon::{STACK_PORTS_TRIED, mask_url},
    exit::{Exit, UserError},
    output,
    system::{RandomIds, SystemClock},
};

/// Serve the Supabase-compatible API in front of a PostgreSQL of yours, without the daemon.
#[derive(Debug, Args)]
pub struct Stack {
    #[command(subcommand)]
    command: Option<StackCommand>,
    /// Its port; the next free one when it is taken
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Serve on this address instead of loopback only; every request then needs a key
    #[arg(long, value_name = "IP")]
    listen: Option<IpAddr>,
    /// A name that requests may call this machine by, beside localhost and addresses; may be repeated
    #[arg(long = "allow-host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Serve with the well-known keys of `supabase start`
    #[arg(long)]
    supabase_cli_keys: bool,
}

#[derive(Debug, Subcommand)]
enum StackCommand {
    /// Print all keys of this data directory, the secret ones too
    Keys {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Stack {
    /// Whether it serves, rather than prints something and ends.
    pub(super) fn is_serving(&self) -> bool {
        self.command.is_none()
    }

    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<Exit> {
        context.config.stack.supabase_cli_keys |= self.supabase_cli_keys;
        match self.command {
            Some(StackCommand::Keys { json }) => print_keys(&keys(&context)?, json),
            None => self.serve(context).await,
        }
    }

    async fn serve(self, context: Context) -> anyhow::Result<Exit> {
        let Some(url) = context.config.database.url.clone() else {
            return Err(UserError::new(
                Exit::Usage,
                "`rowcall stack` needs a database to stand in front of",
            )
            .help(
                "give it with --database-url or ROWCALL_DATABASE_URL; `rowcall up` serves the same over rowcall's own database",
            )
            .into());
        };
        // Listened to before anything is started.
        let mut stop = Stop::new()?;
        let found = look(&url).await?;
        let keys = keys(&context)?;
        let wanted = self.port.unwrap_or(context.config.stack.port);
        let config = self.config(url.clone(), keys.clone(), wanted, &found);
        let server = Server::start(config)
            .await
            .map_err(|error| UserError::of(exit(&error), &error))?;
        announce(&server, &keys, &url, &found, wanted)?;
        stop.signaled().await;
        tracing::info!("stopping; signal again to stop at once");
        tokio::select! {
            () = server.shutdown() => {}
            () = stop.signaled() => tracing::warn!("stopped at once"),
        }
        Ok(Exit::Success)
    }

    fn config(self, url: String, keys: Keys, port: u16, found: &Preflight) -> StackConfig {
        let mut config = StackConfig::new(url, keys, Arc::new(SystemClock));
        config.bind = match self.listen {
            Some(address) => vec![(address, port).into()],
            None => loopback(port),
        };
        config.spare_ports = STACK_PORTS_TRIED;
        config.gateway.require_key = self.listen.is_some_and(|address| !address.is_loopback());
        let hosts = self.hosts.iter().map(|host| host.to_ascii_lowercase());
        config.gateway.allowed_hosts.extend(hosts);
        config.realtime = Some(RealtimeSettings {
            ids: Arc::new(RandomIds),
            limits: Limits::default(),
            slot: Some(slot(found)),
            private_only: false,
        });
        config
    }
}

/// A slot that outlives us only where the server bounds what it holds back; a forgotten one must never fill a disk.
fn slot(found: &Preflight) -> Slot {
    if found.bounds_slots() {
        Slot::Durable {
            name: None,
            keep: true,
        }
    } else {
        Slot::Temporary
    }
}

/// What the server and the role lack, before anything is changed.
async fn look(url: &str) -> anyhow::Result<Preflight> {
    let client = connect(url).await?;
    let found = preflight::look(&client).await.map_err(|error| {
        UserError::new(
            Exit::Database,
            format!("the server does not say what it is: {error}"),
        )
    })?;
    let problems = found.problems();
    if problems.is_empty() {
        return Ok(found);
    }
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| format!("\n  - {problem}"))
        .collect();
    Err(UserError::new(
        Exit::Database,
        format!(
            "the API cannot be put in front of this database:{}",
            lines.concat()
        ),
    )
    .help("nothing was changed; mend this and run the command again")
    .into())
}

/// The keys of the data directory, made on first use.
fn keys(context: &Context) -> anyhow::Result<Keys> {
    if context.config.stack.supabase_cli_keys {
        return Ok(Keys::supabase_cli());
    }
    Ok(Keys::load_or_create(
        &context.data_dir()?,
        SystemClock.now(),
    )?)
}

fn exit(error: &StackError) -> Exit {
    match error {
        StackError::Url(_) => Exit::Usage,
        StackError::Bind(_) => Exit::Failure,
        StackError::Connect(_)
        | StackError::Bootstrap(_)
        | StackError::Realtime(_)
        | StackError::NotReady(_) => Exit::Database,
    }
}

/// URL and public keys as data, in the names of `supabase status -o env`; the rest for people. The secret keys are shown
/// where they are asked for.
fn announce(
    server: &Server,
    keys: &Keys,
    database: &str,
    found: &Preflight,
    wanted: u16,
) -> anyhow::Result<()> {
    let port = server.addresses().first().map_or(wanted, SocketAddr::port);
    output::note("");
    output::note(format_args!("  the API is up at {}", server.url()));
    if wanted != port && wanted != 0 {
        output::note(format_args!("  (port {wanted} is taken)"));
    }
    output::note(format_args!(
        "  database    {} (PostgreSQL {})",
        mask_url(database),
        found.version()
    ));
    output::note("  `rowcall stack keys` prints the secret keys too.");
    if !found.bounds_slots() {
        output::note(
            "  The server does not bound the WAL of replication slots, so ours ends with each connection: changes made while \
             it is broken reach nobody. Set max_slot_wal_keep_size (4GB, say) and start again to have them delivered later.",
        );
    }
    output::note("");
    output::line(format_args!("API_URL=\"{}\"", server.url()))?;
    output::line(format_args!(
        "PUBLISHABLE_KEY=\"{}\"",
        keys.publishable_key()
    ))?;
    output::line(format_args!("ANON_KEY=\"{}\"", keys.anon_key()))?;
    Ok(())
}

fn print_keys(keys: &Keys, as_json: bool) -> anyhow::Result<Exit> {
    let all = [
        ("PUBLISHABLE_KEY", keys.publishable_key()),
        ("SECRET_KEY", keys.secret_key()),
        ("ANON_KEY", keys.anon_key()),
        ("SERVICE_ROLE_KEY", keys.service_role_key()),
        ("JWT_SECRET", keys.jwt_secret()),
    ];
    if as_json {
        let members = all.map(|(name, value)| (name.to_owned(), json!(value)));
        output::json(&serde_json::Map::from_iter(members))?;
    } else {
        for (name, value) in all {
            output::line(format_args!("{name}=\"{value}\""))?;
        }
    }
    Ok(Exit::Success)
}
