//! Daemons as processes of their own: two at once, and one that is killed.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::{Place, eventually, postmaster, processes_in, store};

pub(crate) struct Daemon {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Daemon {
    pub(crate) fn spawn(place: &Place) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rowcall-cluster-probe"))
            .arg(place.data_dir())
            .arg(place.cache_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the probe");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// The next line; the test's own time limit ends a daemon that says nothing.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    pub(crate) fn url(&mut self) -> String {
        let line = self.says();
        match line.strip_prefix("ready ") {
            Some(url) => url.to_owned(),
            None => panic!("not ready: {line:?}"),
        }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("reaped");
    }

    fn stop(mut self) -> String {
        drop(self.child.stdin.take());
        let line = self.says();
        self.child.wait().expect("reaped");
        line
    }
}

#[tokio::test]
async fn the_second_daemon_is_told_who_is_first() {
    let place = Place::new();
    let mut first = Daemon::spawn(&place);
    first.url();
    let mut second = Daemon::spawn(&place);
    let refusal = second.says();
    let pid = first.child.id();
    assert!(refusal.starts_with("error cluster-locked"), "{refusal}");
    assert!(refusal.contains(&format!("pid {pid}, since ")), "{refusal}");
    assert_eq!(first.stop(), "stopped");
    assert_eq!(processes_in(&place.pg_dir()), Vec::<i32>::new());
}

#[tokio::test]
async fn a_killed_daemon_leaves_no_server() {
    let place = Place::new();
    let mut daemon = Daemon::spawn(&place);
    store(&daemon.url(), 7).await;
    let pg_dir = place.pg_dir();
    let server = postmaster(&pg_dir);
    assert!(processes_in(&pg_dir).contains(&server.as_raw()));

    daemon.kill();
    eventually("the server to end", || processes_in(&pg_dir).is_empty());
    eventually("a clean shutdown", || {
        !pg_dir.join("postmaster.pid").exists()
    });
    place.starts_again_with(7).await;
}

#[tokio::test]
async fn a_daemon_killed_while_it_starts_leaves_nothing_that_blocks() {
    let place = Place::new();
    // Wherever it is: the lock is taken, programs are looked for, initdb runs.
    let daemon = Daemon::spawn(&place);
    eventually("the first steps", || {
        place.data_dir().join("secret").exists()
    });
    daemon.kill();
    // initdb may go on for a moment: it is not the server, and works beside its place.
    let cluster = place.started().await;
    store(&cluster.url(), 8).await;
    cluster.stop().await;
    place.starts_again_with(8).await;
}
