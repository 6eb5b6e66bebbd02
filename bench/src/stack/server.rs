//! The server under test: this program once more, so that its memory and processor time are its own.

use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use rowcall_stack::{
    auth::Keys,
    realtime::{Limits, Slot},
    stack::{RealtimeSettings, Stack, StackConfig, loopback},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::system::{RandomIds, SystemClock};

/// The hidden argument that becomes the server.
pub(crate) const SERVER: &str = "__stack";
/// Where it finds its database.
const DATABASE: &str = "ROWCALL_BENCH_DATABASE_URL";
/// How long it may take to start or to stop.
const LIMIT: Duration = Duration::from_mins(1);

/// Serves until standard input ends. The keys are those of `supabase start`.
pub(crate) async fn serve() -> Result<()> {
    super::raise_file_limit()?;
    let url = std::env::var(DATABASE).context("no database")?;
    let mut config = StackConfig::new(url, Keys::supabase_cli(), Arc::new(SystemClock));
    config.bind = loopback(0);
    config.realtime = Some(RealtimeSettings {
        ids: Arc::new(RandomIds),
        limits: Limits::default(),
        slot: Some(Slot::Durable {
            name: None,
            keep: false,
        }),
        private_only: false,
    });
    let stack = Stack::start(config).await?;
    let address = stack.addresses().first().context("no address")?;
    rowcall_address(*address);
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    stack.shutdown().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn rowcall_address(address: SocketAddr) {
    println!("{address}");
}

/// A running server.
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
    pub(super) keys: Keys,
}

impl Server {
    /// Starts one over a database.
    pub(super) async fn start(database_url: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SERVER)
            .env(DATABASE, database_url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("stdout is piped")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await??;
        let address = line.context("the server ended")?.parse()?;
        Ok(Self {
            child,
            address,
            keys: Keys::supabase_cli(),
        })
    }

    pub(super) fn pid(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// Ends it in the orderly way.
    pub(super) async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        tokio::time::timeout(LIMIT, self.child.wait()).await??;
        Ok(())
    }
}
