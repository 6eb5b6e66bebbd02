//! Waiting for transactions to be seen as finished.
//!
//! A commit can be decoded a moment before other sessions see it: PostgreSQL writes the commit record, then takes the
//! transaction off the list of running ones. Whoever asks the database about a change in between finds no row, or a table
//! that does not exist yet.

use std::time::Duration;

use super::dispatch::Placed;
use crate::realtime::database::{Database, QueryError};

const SETTLED: &str = include_str!("../../../sql/realtime/settled.sql");
/// The first pause between two looks; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A commit that waits for a standby may stay unfinished for any time; after this it is handled as it is seen.
const PATIENCE: Duration = Duration::from_secs(5);

/// The transactions of a batch, asked about at most once.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    unsettled: Vec<i64>,
}

impl Transactions {
    pub(crate) fn of(batch: &[Placed]) -> Self {
        let mut unsettled: Vec<i64> = batch
            .iter()
            .map(|placed| i64::from(placed.transaction))
            .collect();
        unsettled.dedup();
        Self { unsettled }
    }

    /// Comes back when everybody sees the transactions as finished.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn settle(&mut self, database: &Database) -> Result<(), QueryError> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        let client = database.check_connection().await?;
        let statement = client.prepare_cached(SETTLED).await?;
        let wait = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let row = client.query_one(&statement, &[&self.unsettled]).await?;
                if row.get("settled") {
                    return Ok::<_, QueryError>(());
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(settled) => settled?,
            Err(_) => tracing::warn!("a commit is not finished; does it wait for a standby?"),
        }
        self.unsettled.clear();
        Ok(())
    }
}
