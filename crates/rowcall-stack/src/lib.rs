//! The embedded backend of rowcall: PostgreSQL as a private cluster, and the Supabase-compatible API over it.

pub mod auth;
pub mod bootstrap;
pub mod cluster;
pub mod drain;
pub mod gateway;
pub mod listen;
pub mod preflight;
pub mod realtime;
pub mod rest;
pub mod stack;
#[cfg(feature = "testing")]
pub mod testing;
