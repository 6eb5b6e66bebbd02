//! Who is asking: keys, tokens and the auth server.

pub mod claims;
pub mod keys;

pub use claims::{Claims, TokenError};
pub use keys::{ApiKey, Keys, KeysError};
