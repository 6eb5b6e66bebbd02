//! The local API against real daemons, as apps, operators and attackers meet it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail their test, as tests do"
)]

mod activities;
mod apps;
mod browser;
mod events;
mod follow;
mod guarded;
mod hostile;
mod matrix;
mod openapi;
mod permissions;
mod properties;
mod reports;
mod review;
mod sdk;
mod trigger;
mod v1;
mod world;
