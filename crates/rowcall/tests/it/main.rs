//! Tests of the binary as its users meet it: real daemons, real databases, real agents.

mod api;
mod chaos;
mod cli;
mod dependencies;
mod errors;
mod project;
mod queue;
mod setup;
mod stack;
mod support;
mod tasks;
mod webhook;
