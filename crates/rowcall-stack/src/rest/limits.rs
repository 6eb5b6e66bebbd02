//! Every bound of the REST server, by name.

use std::time::Duration;

/// The longest request target (path and query), in bytes; the HTTP library ends at 65,534. Long `in.(…)` lists of 16 KB and
/// more must pass.
pub(crate) const MAX_URL_BYTES: usize = 64_000;
/// The largest request body, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
/// How deep embedded resources and logic groups may nest.
pub(crate) const MAX_DEPTH: usize = 16;
/// How many filters, orders and logic terms one request may carry.
pub(crate) const MAX_CONDITIONS: usize = 2_000;
/// How many items all `select` lists of one request may name.
pub(crate) const MAX_SELECT_ITEMS: usize = 2_000;
/// How many embedded resources one request may name.
pub(crate) const MAX_EMBEDS: usize = 100;
/// The most keys an object of a body, or `columns`, may name; PostgreSQL allows 1,600 columns.
pub(crate) const MAX_BODY_KEYS: usize = 1_600;
/// How long a request waits for a connection before it is answered PGRST003.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many prepared statements one connection keeps.
pub(crate) const MAX_STATEMENTS: usize = 300;
/// How many statement shapes are remembered to tell the ones that come back.
pub(crate) const MAX_SEEN_SHAPES: usize = 4_096;
/// How long a statement may run where no role sets `statement_timeout`.
pub(crate) const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);
/// How long one load of the schema cache may take.
pub(crate) const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request waits for the first load of the schema cache.
pub(crate) const FIRST_LOAD_WAIT: Duration = Duration::from_secs(10);
/// How long after a notification to wait for more of them before loading: DDL comes in bursts.
pub(crate) const RELOAD_SETTLE: Duration = Duration::from_millis(20);
/// How long a cancel request may take.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
