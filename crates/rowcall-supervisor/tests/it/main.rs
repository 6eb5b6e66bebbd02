//! Real programs under a real supervisor. Every test ends with a look at what still runs.

#![expect(clippy::unwrap_used, reason = "a test stops where it breaks")]

mod bad_starts;
mod data;
mod endings;
mod example;
mod example_faults;
mod guard;
mod orphans;
mod output;
mod results;
mod support;
mod worker;
mod worker_faults;
