//! Queues of pgmq: jobs per second beside pgmq itself and AIMQ, wake-up latency, and the cost of triggers.

mod aimq;
mod jobs;
mod latency;
mod load;
mod project;
mod sends;

use anyhow::Result;
use clap::Subcommand;
use rowcall_backend::queue::{Database, Install, install};

use crate::{
    report::Report,
    server::{Place, Server},
};

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Part {
    /// Jobs per second through the typed worker, beside bare `pgmq.read` and `archive`, and AIMQ's own worker
    Jobs(jobs::Options),
    /// From a send to the start of its handler: over Realtime, by the database, by polling
    Latency(latency::Options),
    /// A steady stream of sends: everything handled, few wake-ups, and how long messages wait
    Load(load::Options),
    /// Sends per second with each kind of trigger, beside none
    Sends(sends::Options),
}

/// Runs a part.
pub(crate) async fn run(
    place: &Place,
    part: &Part,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    match part {
        Part::Jobs(options) => jobs::run(place, options).await,
        Part::Latency(options) => latency::run(place, options).await,
        Part::Load(options) => load::run(place, options).await,
        Part::Sends(options) => sends::run(place, options).await,
    }
}

/// A new database with pgmq and our helpers in it.
async fn database(server: &Server) -> Result<String> {
    let name = server.create(None).await?;
    let database = Database::new(&server.url(&name), 1)?;
    install(&database, Install::default()).await?;
    Ok(name)
}
