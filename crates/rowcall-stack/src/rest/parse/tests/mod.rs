//! The grammar by example, by round trip, and against nonsense.

mod examples;
mod properties;
