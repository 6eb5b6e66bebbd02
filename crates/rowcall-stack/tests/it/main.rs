//! Integration tests of the stack, against real servers.

mod auth;
mod cluster;
mod cluster_testing;
mod realtime;
mod rest;
mod tls;
