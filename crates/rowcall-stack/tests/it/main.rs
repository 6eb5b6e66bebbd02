//! Integration tests of the stack, against real servers.

mod cluster_testing;
