//! SQL that is put together: the one place where text becomes part of a statement.

pub(crate) mod filter;
mod quote;
pub(crate) mod selector;

pub(crate) use quote::{ident, literal, qualified};
