//! Custom mode: the suite against an app in the test's own process, the reference app, and apps that misbehave.

mod app;
mod conformance;
mod hostile;
mod reference;
