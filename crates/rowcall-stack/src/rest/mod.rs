//! The REST server: PostgREST's protocol over one SQL statement per request.
//!
//! A request is parsed ([`parse`]), planned against the schema cache ([`plan`]), written as one statement ([`sql`]) and
//! run in a transaction that acts as the role of the request's token ([`run`]). PostgreSQL builds the JSON.

mod answer;
mod body;
mod config;
mod error;
mod hints;
mod identity;
mod job;
mod limits;
mod media;
mod parse;
mod plan;
mod pool;
mod prefer;
mod request;
mod run;
mod schema;
mod serve;
mod sql;
mod sqlstate;
mod watch;

pub use config::{RestConfig, TxPolicy};
pub use serve::{Rest, RestOptions};
