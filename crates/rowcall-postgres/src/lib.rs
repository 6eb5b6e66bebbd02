//! How a PostgreSQL is reached: what a database URL says, TLS, and the connections made of both.
//!
//! One way for everything that speaks to a database: tasks, queues, REST, Auth and Realtime.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = rowcall_postgres::Server::parse("postgres://u:p@db.example.com/shop?sslmode=verify-full")?;
//! let (client, connection) = server.connect().await?;
//! # Ok(())
//! # }
//! ```

mod advice;
mod server;
mod stream;
mod tls;
mod url;

pub use advice::explain;
pub use server::{Connection, Connector, Server};
pub use stream::Stream;
pub use tls::Tls;
pub use url::UrlError;
