//! The same suite on a project that RealTimeX prepared: the published functions, with their defects, and nothing of ours.

use super::project::{Setup, conforming};

rowcall_backend::conformance!(conforming(Setup::Published).await);
