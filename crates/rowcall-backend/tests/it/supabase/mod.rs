//! A Supabase project, for which rowcall's own stack stands in, and doubles that do what no project should.

mod access;
mod chaos;
mod conformance;
mod hostile;
mod live;
pub(crate) mod project;
mod proxy;
mod published;
