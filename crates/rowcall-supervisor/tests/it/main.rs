//! Real programs under a real supervisor. Every test ends with a look at what still runs.

mod bad_starts;
mod data;
mod endings;
mod guard;
mod orphans;
mod output;
mod results;
mod support;
mod worker;
mod worker_faults;
