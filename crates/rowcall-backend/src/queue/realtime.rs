//! Switching the wake-ups of queues on and off: the triggers, and the broadcasts for workers that listen to Realtime.

use serde::Serialize;
use tokio_postgres::{Row, error::SqlState, types::ToSql};

use super::{
    error::QueueError,
    name::QueueName,
    presence::{DEFAULT_CHANNEL, DEFAULT_EVENT},
    store::QueueStore,
};

/// How much is broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Every statement that sends.
    #[default]
    Every,
    /// At most one broadcast in so many milliseconds, up to a minute: for high rates. Listeners look once more after the window.
    Gated(u16),
}

/// A queue's broadcasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broadcast {
    /// The Realtime channel; AIMQ's by default.
    pub channel: String,
    /// The event.
    pub event: String,
    /// A private channel: row level security on `realtime.messages` decides who may listen. AIMQ's is public, where anybody
    /// with the anon key can listen and forge wake-ups.
    pub private: bool,
    /// How much.
    pub mode: Mode,
    /// One broadcast per message instead of one per statement.
    pub per_row: bool,
}

impl Default for Broadcast {
    fn default() -> Self {
        Self {
            channel: DEFAULT_CHANNEL.to_owned(),
            event: DEFAULT_EVENT.to_owned(),
            private: false,
            mode: Mode::Every,
            per_row: false,
        }
    }
}

/// How the wake-ups of a queue stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WakeStatus {
    /// Which queue.
    pub queue_name: String,
    /// Whether workers that listen to the database are told.
    pub direct: bool,
    /// What is broadcast, if anything.
    pub broadcast: Option<Broadcast>,
    /// The broadcast trigger is AIMQ's own, not ours: it broadcasts each row, and on pgmq 1.5 and later AIMQ's migration fails.
    pub foreign_trigger: bool,
}

impl QueueStore {
    /// Tells workers that listen to the database: a trigger with a gate, so that only sleeping workers cost anything.
    pub async fn enable_wake(&self, queue: &QueueName) -> Result<(), QueueError> {
        self.control(
            queue,
            "select rowcall_queue.enable_wake($1::text)",
            &[&queue.as_str()],
        )
        .await
    }

    /// Takes the trigger away.
    pub async fn disable_wake(&self, queue: &QueueName) -> Result<(), QueueError> {
        self.control(
            queue,
            "select rowcall_queue.disable_wake($1::text)",
            &[&queue.as_str()],
        )
        .await
    }

    /// Broadcasts through `realtime.send`, in place of what the queue broadcast before.
    pub async fn enable_broadcast(
        &self,
        queue: &QueueName,
        broadcast: &Broadcast,
    ) -> Result<(), QueueError> {
        let gate = match broadcast.mode {
            Mode::Every => 0,
            Mode::Gated(millis) => i32::from(millis.min(60_000)),
        };
        let sql = "select rowcall_queue.enable_broadcast($1::text, $2::text, $3::text, $4::boolean, $5::int, $6::boolean)";
        let Broadcast {
            channel,
            event,
            private,
            per_row,
            ..
        } = broadcast;
        self.control(
            queue,
            sql,
            &[&queue.as_str(), channel, event, private, &gate, per_row],
        )
        .await
    }

    /// Stops broadcasting, ours and AIMQ's.
    pub async fn disable_broadcast(&self, queue: &QueueName) -> Result<(), QueueError> {
        self.control(
            queue,
            "select rowcall_queue.disable_broadcast($1::text)",
            &[&queue.as_str()],
        )
        .await
    }

    /// How the wake-ups of every queue stand.
    pub async fn wake_status(&self) -> Result<Vec<WakeStatus>, QueueError> {
        let rows = self
            .query(
                "looking at wake-ups",
                "select * from rowcall_queue.wake_status()",
                &[],
            )
            .await;
        match rows {
            // Without our helpers there are no wake-ups of ours; that is an answer.
            Err(error) if error.sql_state() == Some(&SqlState::UNDEFINED_FUNCTION) => {
                Ok(Vec::new())
            }
            Err(QueueError::NotInstalled) => Ok(Vec::new()),
            rows => Ok(rows?.iter().map(status).collect()),
        }
    }

    async fn control(
        &self,
        queue: &QueueName,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<(), QueueError> {
        self.rows("switching wake-ups", queue, sql, params).await?;
        Ok(())
    }
}

fn status(row: &Row) -> WakeStatus {
    let on: bool = row.get("broadcast");
    let gate: Option<i32> = row.get("gate_ms");
    let text = |column: &str| row.get::<_, Option<String>>(column).unwrap_or_default();
    WakeStatus {
        queue_name: row.get("queue_name"),
        direct: row.get("direct"),
        broadcast: on.then(|| Broadcast {
            channel: text("channel"),
            event: text("event"),
            private: row.get::<_, Option<bool>>("private").unwrap_or(false),
            mode: match gate.and_then(|gate| u16::try_from(gate).ok()) {
                None | Some(0) => Mode::Every,
                Some(gate) => Mode::Gated(gate),
            },
            per_row: row.get::<_, Option<bool>>("per_row").unwrap_or(false),
        }),
        foreign_trigger: row.get("foreign_trigger"),
    }
}
