//! The local HTTP API on port 3001: the published SDK contract, and our own `/rowcall/v1`.

mod activities;
mod agenda;
mod background;
mod body;
mod declared;
mod error;
mod frame;
mod guard;
mod identity;
mod listen;
mod outside;
mod peer;
mod permissions;
mod policy;
mod report;
mod rules;
mod sdk;
mod serve;
mod session;
mod state;
mod streams;
mod token;
mod tokens;
mod v1;
mod worker;

use axum::Router;

pub use self::{
    error::ApiError,
    frame::MAX_BODY_BYTES,
    guard::Neighbours,
    identity::digest,
    listen::{ListenError, bind},
    policy::{Policy, PolicyError},
    rules::{PERMISSIONS, Route, Rule},
    serve::serve,
    session::{Session, secret},
    state::{Api, Parts},
    token::{TASK_TOKEN_HEADER, TASK_TOKEN_VARIABLE, TaskTokens},
    v1::openapi,
    worker::{METRICS_PATH, worker_router},
};

/// All routes, with what guards them.
pub fn router(api: &Api) -> Router {
    let neighbours = Neighbours {
        hosts: api.config().hosts.clone(),
        origins: api.config().origins.clone(),
    };
    let routes = all_routes().into_router().with_state(api.clone());
    frame::around(routes, neighbours, api.answers().clone())
}

fn all_routes() -> rules::Routes {
    sdk::routes().merge(v1::routes())
}

/// Every route and what it wants, for tests and documentation.
pub fn catalogue() -> Vec<Route> {
    all_routes().table().to_vec()
}

#[cfg(test)]
mod tests;
