//! Tests of the backends against real databases, and of the reference model.

#![expect(clippy::unwrap_used, reason = "a test stops where it breaks")]

mod custom;
mod memory;
mod postgres;
mod queue;
mod supabase;
