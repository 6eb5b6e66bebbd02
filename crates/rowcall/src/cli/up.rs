//! `rowcall up`

use std::path::PathBuf;

use clap::Args;
use rowcall_core::MachineId;
use rowcall_stack::cluster::Events;

use super::{
    Context,
    serve::{Stop, run_until},
};
use crate::{
    config::Provider,
    daemon::{Addresses, Daemon, mask_url},
    exit::{Exit, UserError},
    output,
};

/// Run the daemon.
#[derive(Debug, Args)]
pub struct Up {
    /// The port of the local API; 0 takes any free one
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// The port of the Supabase-compatible API
    #[arg(long, value_name = "PORT")]
    stack_port: Option<u16>,
    /// Do not serve the Supabase-compatible API
    #[arg(long)]
    no_stack: bool,
    /// The port of our own PostgreSQL
    #[arg(long, value_name = "PORT")]
    db_port: Option<u16>,
    /// Where our own PostgreSQL's programs come from
    #[arg(long, value_name = "PROVIDER")]
    pg: Option<Provider>,
    /// Never download PostgreSQL
    #[arg(long)]
    offline: bool,
    /// Serve with the well-known keys and password of `supabase start`
    #[arg(long)]
    supabase_cli_keys: bool,
    /// Who this machine is, instead of the id kept in the data directory
    #[arg(long, value_name = "ID")]
    machine_id: Option<MachineId>,
    /// Decide about apps' permissions by this file instead of asking a person
    #[arg(long, value_name = "FILE")]
    approve: Option<PathBuf>,
    /// Add or replace this app first; may be repeated
    #[arg(long = "app", value_name = "FILE")]
    apps: Vec<PathBuf>,
}

impl Up {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<Exit> {
        self.configure(&mut context);
        let store = context.store()?;
        for file in &self.apps {
            let text = super::app::anchored(file)?;
            let app = rowcall_core::App::parse(&text, None).map_err(|error| {
                UserError::new(
                    Exit::Usage,
                    format!("{} cannot be used: {error}", file.display()),
                )
                .code(error.code())
            })?;
            store.put_app(
                &app.name,
                &text,
                rowcall_core::Clock::now(&crate::system::SystemClock),
            )?;
        }
        drop(store);
        let stop = Stop::new()?;
        let daemon = Daemon::start(&context.config, Events::to_log()).await?;
        announce(daemon.addresses());
        run_until(daemon, stop).await
    }

    fn configure(&self, context: &mut Context) {
        let config = &mut context.config;
        config.api.port = self.api_port.unwrap_or(config.api.port);
        config.stack.port = self.stack_port.unwrap_or(config.stack.port);
        config.stack.enabled &= !self.no_stack;
        config.stack.supabase_cli_keys |= self.supabase_cli_keys;
        config.database.well_known_password |= self.supabase_cli_keys;
        config.database.port = self.db_port.unwrap_or(config.database.port);
        config.database.provider = self.pg.unwrap_or(config.database.provider);
        config.database.offline |= self.offline;
        config.api.policy = self.approve.clone().or_else(|| config.api.policy.take());
        config.machine.id = self.machine_id.clone().or_else(|| config.machine.id.take());
    }
}

/// Says where everything is. Keys and passwords are shown where they are asked for, not in a log.
fn announce(addresses: &Addresses) {
    output::note("");
    output::note(format_args!("  rowcall is up as {}", addresses.machine));
    if let Some(url) = &addresses.database_url {
        output::note(format_args!("  database    {}", mask_url(url)));
    }
    if let Some(stack) = &addresses.stack {
        output::note(format_args!("  supabase    {}", stack.url));
    }
    output::note(format_args!("  local API   {}", addresses.api_url));
    output::note(format_args!(
        "  data        {}",
        addresses.data_dir.display()
    ));
    output::note("");
    if addresses.database_url.is_some() {
        output::note("  `rowcall db url` prints the database's URL with its password.");
        output::note("");
    }
}
