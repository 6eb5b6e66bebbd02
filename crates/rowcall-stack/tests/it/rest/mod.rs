//! The REST server, over HTTP, against a real PostgreSQL.

mod auth_roles;
mod bootstrap;
mod calls;
mod clients;
mod corners;
mod embeds;
mod errors;
mod faults;
mod matrix;
mod reads;
mod schema_reload;
pub(crate) mod world;
mod writes;
