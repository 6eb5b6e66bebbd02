//! What queues count, for whoever installs a recorder of the `metrics` crate.
//!
//! Labels are queues of the configuration and two words: their number is bounded by it.

use super::name::QueueName;

/// What a family of numbers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Numbers in buckets.
    Histogram,
}

/// A family of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
}

const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { name, kind, help }
}

/// From when a message could be read to the start of its handler.
pub const WAIT: Family = family(
    "rowcall_queue_wait_seconds",
    Kind::Histogram,
    "From when a message could be read (sent, or its delay over) to the start of its handler.",
);
/// Wake-ups of our queues.
pub const WAKES: Family = family(
    "rowcall_queue_wakes_total",
    Kind::Counter,
    "Wake-ups heard for a queue.",
);
/// Messages given up.
pub const DEAD_LETTERS: Family = family(
    "rowcall_queue_dead_letters_total",
    Kind::Counter,
    "Messages given up after their last attempt.",
);
/// Results that came too late.
pub const FENCED: Family = family(
    "rowcall_queue_fenced_total",
    Kind::Counter,
    "Results that came after their lease was lost, and do not count.",
);
/// Lost connections.
pub const RECONNECTS: Family = family(
    "rowcall_queue_reconnects_total",
    Kind::Counter,
    "How often the connection that brings wake-ups was lost and opened again.",
);
/// Whether wake-ups arrive.
pub const CHANNEL_UP: Family = family(
    "rowcall_queue_channel_up",
    Kind::Gauge,
    "Whether wake-ups arrive, by the database or over Realtime; 0 while queues are only polled.",
);

/// All families.
pub const FAMILIES: [Family; 6] = [WAIT, WAKES, DEAD_LETTERS, FENCED, RECONNECTS, CHANNEL_UP];

/// Upper bounds for [`WAIT`], in seconds: fine where wake-ups are, coarse where queues are full.
pub const WAIT_BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0,
    3600.0,
];

/// Tells the installed recorder what the families are.
pub fn describe() {
    for one in FAMILIES {
        match one.kind {
            Kind::Counter => metrics::describe_counter!(one.name, one.help),
            Kind::Gauge => metrics::describe_gauge!(one.name, one.help),
            Kind::Histogram => metrics::describe_histogram!(one.name, one.help),
        }
    }
}

/// The meters of one queue, looked up once.
pub(super) struct Meters {
    pub(super) waited: metrics::Histogram,
    pub(super) wakes: metrics::Counter,
    pub(super) dead_letters: metrics::Counter,
    pub(super) fenced: metrics::Counter,
}

impl Meters {
    pub(super) fn of(queue: &QueueName) -> Self {
        let name = queue.as_str().to_owned();
        Self {
            waited: metrics::histogram!(WAIT.name, "queue" => name.clone()),
            wakes: metrics::counter!(WAKES.name, "queue" => name.clone()),
            dead_letters: metrics::counter!(DEAD_LETTERS.name, "queue" => name.clone()),
            fenced: metrics::counter!(FENCED.name, "queue" => name),
        }
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

/// The meters of the connection that brings wake-ups.
pub(super) struct ChannelMeters {
    reconnects: metrics::Counter,
    up: metrics::Gauge,
}

impl ChannelMeters {
    /// `by` is `database` or `realtime`.
    pub(super) fn of(by: &'static str) -> Self {
        let meters = Self {
            reconnects: metrics::counter!(RECONNECTS.name, "by" => by),
            up: metrics::gauge!(CHANNEL_UP.name, "by" => by),
        };
        meters.up.set(0.0);
        meters
    }

    /// Whether wake-ups arrive now.
    pub(super) fn up(&self, arrive: bool) {
        self.up.set(if arrive { 1.0 } else { 0.0 });
    }

    /// The connection is lost.
    pub(super) fn lost(&self) {
        self.up.set(0.0);
        self.reconnects.increment(1);
    }
}
