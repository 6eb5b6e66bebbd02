//! The suite that every coordinator passes, on a project that `rowcall setup` prepared.

use super::project::{Setup, conforming};

rowcall_backend::conformance!(conforming(Setup::Ours).await);
