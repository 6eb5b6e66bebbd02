//! Integration tests of the stack, against real servers.

mod cluster;
mod cluster_testing;
mod realtime;
mod rest;
