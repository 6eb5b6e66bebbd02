//! Stored broadcasts that are sent again to a private channel that asks for them.

use bytes::Bytes;
use rowcall_realtime::{Outgoing, Version, event};
use uuid::Uuid;

use super::database::{Database, QueryError};
use super::message::{encode, event_object};

const REPLAY: &str = include_str!("../../sql/realtime/replay.sql");

/// A stored broadcast.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) id: Uuid,
    event: String,
    /// JSON text; messages with a binary payload are not replayed to anybody.
    payload: String,
}

/// The newest `limit` messages of a private topic since a time in milliseconds, oldest first.
pub(crate) async fn stored(
    database: &Database,
    topic: &str,
    since: i64,
    limit: u32,
) -> Result<Vec<Stored>, QueryError> {
    let client = database.connection().await?;
    let statement = client.prepare_cached(REPLAY).await?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 stay exact for 280,000 years"
    )]
    let since = since as f64;
    let rows = client
        .query(&statement, &[&topic, &since, &i64::from(limit)])
        .await?;
    Ok(rows
        .iter()
        .rev()
        .filter_map(|row| {
            Some(Stored {
                id: row.get(0),
                event: row.get(1),
                payload: row.get::<_, Option<String>>(2)?,
            })
        })
        .collect())
}

impl Stored {
    /// The frame for the channel that asked: it carries the channel's `join_ref`, as all pushes a channel makes itself.
    pub(crate) fn frame(&self, version: Version, topic: &str, join_ref: Option<&str>) -> Bytes {
        let meta = format!(r#"{{"id":"{}","replayed":true}}"#, self.id);
        encode(
            version,
            &Outgoing {
                join_ref,
                reference: None,
                topic,
                event: event::BROADCAST,
                payload: &event_object(&self.event, &self.payload, &meta),
            },
        )
    }
}
