//! A scratch PostgreSQL for tests (feature `testing`).
//!
//! [`TestCluster`] is one server for all test processes of a user: the first process that needs it
//! starts it, the others find it, and a watchdog stops it half a minute after the last of them has
//! ended. [`TestDb`] is a database of one test in it, made from a template and dropped at the end.
//!
//! ```no_run
//! # async fn example() {
//! use rowcall_stack::testing::TestDb;
//!
//! let db = TestDb::create().await;
//! let client = db.connect().await;
//! client.batch_execute("create table t (id int primary key)").await.unwrap();
//! # }
//! ```
//!
//! What lives in the whole server instead of one database (roles, active replication slots) is the
//! test's own to name uniquely and to drop; [`TestDb::unique`] makes such names.
//!
//! [`TlsFront`] puts TLS before a server whose programs may have none.
//!
//! Tests that stop, restart or kill a server make a [`PrivateCluster`].
//!
//! `ROWCALL_TEST_PG_BIN` names the directory of the server programs to use, `ROWCALL_TEST_POSTGRES` a major version of
//! them, which is fetched; without either they come from where the daemon would take them.
//!
//! Everything here panics when it fails: it is for tests only.

mod database;
mod instance;
mod meeting;
mod place;
mod plan;
mod server;
mod thread;
mod tls;

pub use database::TestDb;
pub use instance::explicit_bin_dir;
pub use place::{reserved_port, scratch_dir};
pub use plan::Plan;
pub use server::{PrivateCluster, ServerEnd, TestCluster};
pub use tls::TlsFront;
