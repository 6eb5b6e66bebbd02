//! A Supabase project, for which rowcall's own stack stands in, and doubles that do what no project should.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod chaos;
mod conformance;
mod examine;
mod hinted;
mod hostile;
mod live;
pub(crate) mod project;
mod proxy;
mod published;
