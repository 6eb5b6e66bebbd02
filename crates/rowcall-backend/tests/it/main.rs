//! Tests of the backends against real databases, and of the reference model.

mod custom;
mod memory;
mod postgres;
mod queue;
mod supabase;
