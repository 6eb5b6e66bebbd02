//! A daemon in small: runs an embedded server until its standard input is closed.
//!
//! `rowcall-cluster-probe <data dir> <cache dir>` prints `ready <url>` or `error <code> <message>`
//! (one line), and `stopped` at the end. `rowcall-cluster-probe __postgres-guard …` is the guard.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use rowcall_stack::cluster::{
    Cluster, ClusterConfig, ClusterError, DataDirLock, Events, GuardCommand, ProviderKind,
    SearchPaths, run_guard,
};

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == "__postgres-guard")
    {
        return run_guard(arguments.drain(1..));
    }
    let [data_dir, cache_dir] = arguments.as_slice() else {
        say("usage: rowcall-cluster-probe <data dir> <cache dir>");
        return ExitCode::from(2);
    };
    let run = run(PathBuf::from(data_dir), PathBuf::from(cache_dir));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = error.to_string().replace('\n', " | ");
            say(&format!("error {} {message}", error.code()));
            ExitCode::FAILURE
        }
    }
}

async fn run(data_dir: PathBuf, cache_dir: PathBuf) -> Result<(), ClusterError> {
    let lock = DataDirLock::acquire(&data_dir)?;
    let guard = GuardCommand::own_binary(["__postgres-guard"]).expect("the path of this binary");
    let search = SearchPaths::new(std::env::var_os("PATH").as_deref());
    let mut config = ClusterConfig::new(cache_dir, guard, search);
    config.search.explicit = rowcall_stack::testing::explicit_bin_dir();
    if config.search.explicit.is_some() {
        config.provider = Some(ProviderKind::Installed);
    }
    let events = Events::to(|event| drop(writeln!(std::io::stderr(), "{event}")));
    let cluster = Cluster::start(config, &lock, events).await?;
    say(&format!("ready {}", cluster.url()));
    let closed =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    closed
        .await
        .expect("not cancelled")
        .expect("standard input");
    cluster.stop().await;
    say("stopped");
    Ok(())
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}
