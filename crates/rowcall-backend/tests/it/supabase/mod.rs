//! A Supabase project, for which rowcall's own stack stands in, and doubles that do what no project should.

mod conformance;
mod project;
mod published;
