//! The suite that every coordinator passes, with an app that has the last word.

use super::app::custom;

rowcall_backend::conformance!(custom().await);
