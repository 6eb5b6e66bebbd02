//! The embedded backend of rowcall: PostgreSQL as a private cluster, and the Supabase-compatible API over it.

pub mod auth;
pub mod bootstrap;
pub mod cluster;
pub mod rest;
#[cfg(feature = "testing")]
pub mod testing;
