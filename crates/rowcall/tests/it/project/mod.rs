//! Daemons on a Supabase project, which they know by URL and key only.

mod compatible;
mod custom;
mod dispersal;
mod management;
mod storm;
pub(crate) mod wire;
