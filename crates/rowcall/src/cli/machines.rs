//! `rowcall machines`

use clap::Args;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;

use super::{Context, client::Client};
use crate::{exit::Exit, output};

/// The machines, as the running daemon knows them.
#[derive(Debug, Args)]
#[command(
    after_help = "Machines of a Supabase project show themselves to each other through Realtime presence."
)]
pub struct Machines {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Machines {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let said = Client::new(context)?
            .ask(Method::GET, "/machines", None)
            .await?;
        if self.json {
            output::json(&said["machines"])?;
            return Ok(Exit::Success);
        }
        let machines = said["machines"].as_array().cloned().unwrap_or_default();
        let rows: Vec<_> = machines.iter().map(row).collect();
        output::table(
            [
                "MACHINE", "HOST", "USER", "APPS", "STATUS", "RUNNING", "SINCE",
            ],
            &rows,
        )?;
        if context.config.backend.is_project() && said["presence"] == false {
            output::note("Realtime does not answer now: other machines are not seen");
        }
        Ok(Exit::Success)
    }
}

fn row(machine: &Value) -> [String; 7] {
    let text = |key: &str, max| {
        let text = machine[key].as_str().filter(|text| !text.is_empty());
        output::shorten(text.unwrap_or("-"), max)
    };
    let number = |key: &str| machine[key].as_u64().map(|number| number.to_string());
    let running = match (number("slots_used"), number("slots")) {
        (Some(used), Some(slots)) => format!("{used} of {slots}"),
        (Some(used), None) => used,
        (None, _) => "-".to_owned(),
    };
    let own = if machine["own"] == true {
        " (this one)"
    } else {
        ""
    };
    [
        format!("{}{own}", text("id", 60)),
        text("host", 30),
        text("user_email", 40),
        text("app_name", 40),
        text("status", 10),
        running,
        since(&machine["started_at"]),
    ]
}

/// To the second, as all times of tables.
fn since(at: &Value) -> String {
    at.as_str()
        .and_then(|at| at.parse::<Timestamp>().ok())
        .map_or_else(
            || "-".to_owned(),
            |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        )
}
