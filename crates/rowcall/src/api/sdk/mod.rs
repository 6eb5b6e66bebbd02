//! The routes of the published SDK contract (npm `@realtimex/sdk`, PyPI `realtimex-sdk`), on port 3001.

mod activities;
mod auth;
pub(super) mod catalog;
mod contract;
mod database;
mod later;
mod llm;
mod permission;
mod ping;
mod task;
mod vectors;
pub(super) mod webhook;

use super::{report, rules::Routes};

/// All of them.
pub(super) fn routes() -> Routes {
    Routes::default()
        .merge(ping::routes())
        .merge(permission::routes())
        .merge(catalog::routes())
        .merge(task::routes())
        .merge(webhook::routes())
        .merge(activities::routes())
        .merge(llm::routes())
        .merge(vectors::routes())
        .merge(database::routes())
        .merge(auth::routes())
        .merge(contract::routes())
        .merge(report::routes())
        .merge(later::routes())
}
