//! Queues of pgmq as a source of tasks.
//!
//! A message is a task, its visibility time-out is the lease, and the number of reads is the fence. [`QueueBackend`] is the
//! coordinator, [`QueueSignals`] wakes it, [`QueueStore`] is for producers and people, [`install()`] puts pgmq and the wake-up
//! helpers into a database, and [`Worker`] runs typed handlers without an engine.
//!
//! Everything works on pgmq 1.4.4 (what older Supabase projects have) and later, beside other workers: AIMQ, pgmq-js, the
//! `pgmq` of PyPI, supabase-js. Requirements: `docs/queues.md`.

mod backend;
mod claim;
mod coordinator;
mod database;
mod depth;
pub mod doctor;
mod error;
mod in_flight;
pub mod install;
mod layout;
pub mod meters;
mod migration;
mod name;
mod pause;
mod place;
pub mod presence;
mod project;
pub mod realtime;
mod returns;
mod settle;
mod signals;
mod spec;
mod statement;
mod step;
mod store;
mod view;
mod worker;

pub use backend::{QueueBackend, QueueOptions};
pub use database::Database;
pub use depth::Depth;
pub use error::QueueError;
pub use install::{Install, install};
pub use migration::Migration;
pub use name::{MAX_QUEUE_NAME_BYTES, QueueName, QueueNameError};
pub use project::{ListedQueue, QueueProject};
pub use realtime::{Broadcast, Mode, WakeStatus};
pub use signals::{QueueSignals, SignalOptions, Wake};
pub use spec::{
    DEFAULT_MAX_ATTEMPTS, DEFAULT_PAUSE, DEFAULT_VISIBILITY, Finish, QueueSpec, ReadOrder,
    RetryDelay,
};
pub use store::{Kind, MAX_READ, MAX_SEND_BATCH, Message, Metrics, Queue, QueueStore};
pub use worker::{Failure, Job, JobError, QueueBuilder, Worker, WorkerBuilder};
