//! Every limit of the server, by name.

use std::time::Duration;

use rowcall_realtime::frame::MAX_FRAME_BYTES;

/// What one server, one socket and one channel may use. Rates that are `None` are not limited.
///
/// The defaults suit one machine that trusts its clients; hosted Supabase's are far lower.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sockets open at once. More are refused with 429 `Too many connected users`.
    pub connections: usize,
    /// Channels joined at once on one socket; more get `ChannelRateLimitReached`.
    pub channels_per_connection: usize,
    /// Joins a second over all sockets; more get `ClientJoinRateLimitReached`.
    pub joins_per_second: Option<u32>,
    /// Messages a second one socket may send; more end the channel with `Too many messages per second`.
    pub messages_per_second: Option<u32>,
    /// Presence calls a second over all sockets; more end the channel with `Too many presence messages per second`.
    pub presence_messages_per_second: Option<u32>,
    /// Presence calls one channel may make in [`PRESENCE_WINDOW`]. Beyond it calls are answered with an error; beyond twice
    /// as many the channel ends with `Client presence rate limit exceeded`.
    pub presence_calls: u32,
    /// Largest presence payload, in bytes; a larger one ends the channel with `Track message size exceeded`.
    pub presence_bytes: usize,
    /// Presences one topic holds; more are refused.
    pub presences_per_topic: usize,
    /// Largest payload of one broadcast, in bytes.
    pub broadcast_bytes: usize,
    /// Requests a second to the HTTP API; more get 429.
    pub api_requests_per_second: Option<u32>,
    /// Messages in one request to the batch API.
    pub batch_messages: usize,
    /// Largest frame a client may send, in bytes; a larger one closes the socket with 1009.
    pub frame_bytes: usize,
    /// Bytes that may wait for one socket. Above it the client counts as one that does not read, and is closed with 1013.
    pub queued_bytes: usize,
    /// Frames that may wait for one socket, as [`Limits::queued_bytes`].
    pub queued_frames: usize,
    /// How long those who send wait for a socket with a long queue before it is given up.
    pub slow_patience: Duration,
    /// How long one write to a socket may make no progress.
    pub write_timeout: Duration,
    /// A socket on which nothing arrives for so long is closed.
    pub silence: Duration,
    /// A socket that has had no channel for so long is closed.
    pub without_channel: Duration,
    /// JSON text of one change, in bytes; a larger one is delivered as error 413.
    pub change_bytes: usize,
    /// Changes kept for clients that come back with `since`, in bytes.
    pub ring_bytes: usize,
    /// How long the slot holds back what was delivered, so that a restarted server can fill its ring again.
    pub ring_age: Duration,
    /// How long a join waits for the database.
    pub join_timeout: Duration,
    /// How long one query may take.
    pub query_timeout: Duration,
    /// Rows checked against row level security in one query.
    pub visibility_batch: usize,
    /// Connections to the database for joins, policies and subscriptions.
    pub pool_connections: usize,
    /// Connections to the database for row level security checks.
    pub visibility_connections: usize,
}

/// The time over which [`Limits::presence_calls`] counts.
pub const PRESENCE_WINDOW: Duration = Duration::from_secs(30);

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            channels_per_connection: 100,
            joins_per_second: None,
            messages_per_second: None,
            presence_messages_per_second: None,
            presence_calls: 100,
            presence_bytes: 65_536,
            presences_per_topic: 20_000,
            broadcast_bytes: 3_000_500,
            api_requests_per_second: None,
            batch_messages: 1_000,
            frame_bytes: MAX_FRAME_BYTES,
            queued_bytes: 16 * 1024 * 1024,
            queued_frames: 65_536,
            slow_patience: Duration::from_secs(2),
            write_timeout: Duration::from_secs(30),
            silence: Duration::from_mins(1),
            without_channel: Duration::from_mins(10),
            change_bytes: 1_048_576,
            ring_bytes: 16 * 1024 * 1024,
            ring_age: Duration::from_secs(10),
            join_timeout: Duration::from_secs(8),
            query_timeout: Duration::from_secs(5),
            visibility_batch: 200,
            pool_connections: 6,
            visibility_connections: 3,
        }
    }
}
