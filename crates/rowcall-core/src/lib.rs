//! The domain of rowcall, pure.
//!
//! Tasks, leases, retry, routes, filters and app manifests as plain values, and the ports through which the engine
//! speaks to everything else. This crate does no I/O, reads no clock and no environment: time, randomness and data come
//! in as arguments.

pub mod agent;
pub mod clock;
pub mod dispersal;
pub mod error;
pub mod event;
pub mod filter;
pub mod id;
pub mod lease;
pub mod manifest;
pub mod overrides;
pub mod ports;
pub mod retry;
pub mod route;
pub mod table;
pub mod task;

pub use agent::{AgentError, AgentErrorKind, AgentKind, AgentOutput, AgentSpec, Command, Runtime};
pub use clock::{Clock, FixedClock, IdSource, SequentialIds};
pub use dispersal::Dispersal;
pub use error::{ErrorClass, SourceError};
pub use event::{EventKind, EventSet, Signal};
pub use filter::Filter;
pub use id::{AgentId, AppId, MachineId, TaskId, TaskRef};
pub use lease::{Lease, LeaseKey, LeasePolicy};
pub use manifest::{App, AppType, ManifestError};
pub use retry::{Backoff, MAX_RETRY_DELAY, RetryPolicy};
pub use route::{Route, Selector, Trigger};
pub use table::{TableName, TableNameError};
pub use task::{InvalidTransition, Payload, Task, TaskState};
