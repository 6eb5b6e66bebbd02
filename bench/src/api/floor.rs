//! What the API's work costs without it: a bare server that answers, and bare statements.

use std::{
    net::SocketAddr,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use axum::{Json, Router, routing::get};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

use super::Measured;
use crate::server::connect;

/// The hidden argument that becomes the bare server.
pub(crate) const BARE_SERVER: &str = "__bare-server";

/// How long the bare server may take to listen.
const LIMIT: Duration = Duration::from_secs(10);

/// Becomes a server with nothing but a ping, and says where it listens.
pub(crate) fn run_bare_server() -> ExitCode {
    let serve = async {
        let pong =
            async || Json(json!({ "success": true, "message": "pong", "mode": "development" }));
        let routes = Router::new().route("/sdk/ping", get(pong));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        // The parent waits for this line.
        println_now(&listener.local_addr()?.to_string())?;
        axum::serve(listener, routes).await
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(serve)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn println_now(line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The bare server, as a process of its own like the daemon.
pub(super) struct BareServer {
    _child: Child,
    pub(super) address: SocketAddr,
}

impl BareServer {
    pub(super) async fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(BARE_SERVER)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await??;
        let address = line.context("the bare server ended")?.parse()?;
        Ok(Self {
            _child: child,
            address,
        })
    }
}

/// A statement that the API runs for a request, as bare as it can be sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Statement {
    /// One activity.
    Insert,
    /// The newest fifty, as JSON.
    List,
}

const INSERT: &str = "insert into public.rtx_activities as a (raw_data) values ($1::text::jsonb) returning to_json(a)::text";
const LIST: &str = "select to_json(a)::text from public.rtx_activities a \
     order by a.created_at desc nulls last, a.id limit 50";

/// Runs a statement for `time` with so many connections.
pub(super) async fn run(
    url: &str,
    statement: Statement,
    connections: u32,
    time: Duration,
) -> Result<Measured> {
    let mut ready = Vec::new();
    for _ in 0..connections {
        let client = connect(url).await?;
        let prepared = client
            .prepare(match statement {
                Statement::Insert => INSERT,
                Statement::List => LIST,
            })
            .await?;
        ready.push((client, prepared));
    }
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for (client, prepared) in ready {
        running.spawn(async move {
            let mut took = Vec::new();
            while begun.elapsed() < time {
                let start = Instant::now();
                match statement {
                    Statement::Insert => client.query(&prepared, &[&super::RAW_DATA]).await?,
                    Statement::List => client.query(&prepared, &[]).await?,
                };
                took.push(start.elapsed().as_secs_f64() * 1e3);
            }
            Ok(took)
        });
    }
    let mut took: Vec<f64> = Vec::new();
    while let Some(one) = running.join_next().await {
        let one: Result<Vec<f64>> = one?;
        took.extend(one?);
    }
    Ok(Measured::of(&took, begun.elapsed()))
}
