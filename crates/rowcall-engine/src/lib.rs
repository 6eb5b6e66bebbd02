//! The engine of rowcall: signals → inbox → route → permit → claim → run → renew → settle, and the local store.
//!
//! ```text
//! SignalSource ──► source loop ──► Coordinator (claim, renew, settle, release)
//!                    │    ▲
//!                    ▼    │ verdicts, reports, people
//!                  AgentRunner
//! ```
//!
//! One loop per source owns everything claimed there and puts all events in one order. The engine knows the ports of
//! `rowcall-core` and no backend. Losing a claim, a lease or a race is an outcome, never an error.
//!
//! # Invariants held here
//!
//! - Nothing is claimed without a permit, and the permit is given back only when the agent is gone.
//! - A verdict is queued once per unit and written fenced; what the database fences is dropped, counted and shown.
//! - A flag that a signal sets is cleared only by sending a claim, so no wake-up is lost.
//! - Every lease ends settled, released or lost; a stop leaves none behind that could still be written.

mod admission;
mod apps;
mod bus;
mod engine;
mod error;
mod group;
mod handle;
mod options;
mod report;
mod runner;
mod shared;
mod source;
mod status;
pub mod store;
mod unit;
mod unit_log;

pub use apps::AppProblem;
pub use bus::{EngineEvent, FencedAt, Heard, MAX_EVENT_TEXT, Subscription, What};
pub use engine::{Engine, EngineBuilder, StopSummary};
pub use error::{BuildError, EngineError, OptionsError};
pub use handle::{EngineHandle, StopReply};
pub use options::{EngineOptions, MAX_BATCH, MAX_LANES, PollOptions};
pub use report::{Report, ReportReply};
pub use runner::{FnRunner, InProcessRunner};
pub use source::{RunReply, Source};
pub use status::{AppStatus, CounterValues, EngineStatus, RunningTask, SourceStatus, Stage};
