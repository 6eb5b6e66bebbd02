//! Who is asking: keys, tokens and the auth server.

pub mod claims;
pub mod keys;
mod server;

pub use claims::{Claims, TokenError};
pub use keys::{ApiKey, Keys, KeysError};
pub use server::{AuthConfig, AuthOptions, AuthServer};
