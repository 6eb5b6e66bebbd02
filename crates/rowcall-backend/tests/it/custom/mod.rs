//! Custom mode: the suite against an app in the test's own process, the reference app, and apps that misbehave.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod app;
mod conformance;
mod hostile;
mod reference;
