//! The suite that every coordinator passes.

use super::database::database;

rowcall_backend::conformance!(database().await);
