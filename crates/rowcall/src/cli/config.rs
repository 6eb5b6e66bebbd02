//! `rowcall config`

use clap::Subcommand;

use super::Context;
use crate::{exit::Exit, output};

/// The configuration.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print the configuration in force, as TOML
    Show {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print where data and cached programs are kept
    Paths {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
}

impl Config {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Show { json } => {
                let mut config = context.config.clone();
                // A URL carries a password.
                config.database.url = config.database.url.as_deref().map(crate::daemon::mask_url);
                if !config.worker.realtime.key.is_empty() {
                    "****".clone_into(&mut config.worker.realtime.key);
                }
                if json {
                    output::json(&config)?;
                } else {
                    output::line(toml::to_string_pretty(&config)?.trim_end())?;
                }
            }
            Self::Paths { json } => {
                let data = context.config.data_dir()?;
                let cache = context.config.cache_dir()?;
                if json {
                    output::json(&serde_json::json!({ "data": data, "cache": cache }))?;
                } else {
                    let rows = [
                        ["data".to_owned(), data.display().to_string()],
                        ["cache".to_owned(), cache.display().to_string()],
                    ];
                    output::table(["WHAT", "WHERE"], &rows)?;
                }
            }
        }
        Ok(Exit::Success)
    }
}
