//! What an earlier daemon may have left: the next start copes.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rowcall_stack::cluster::{Cluster, ClusterEvent};

use super::{Place, eventually, is_root, postmaster, processes_in, store};

/// Makes the server's own user run a program.
fn as_server_user(command: &mut Command, cluster_dir: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    if is_root() {
        let meta = cluster_dir.metadata().expect("metadata");
        command.uid(meta.uid()).gid(meta.gid());
    }
}

/// Starts a database, stores a row, and stops it.
async fn prepared(row: i32) -> (Place, std::path::PathBuf) {
    let place = Place::new();
    let cluster = place.started().await;
    store(&cluster.url(), row).await;
    let program = cluster.info().install.bin_dir.join("postgres");
    cluster.stop().await;
    (place, program)
}

#[tokio::test]
async fn an_orphan_is_stopped_first() {
    let (place, program) = prepared(1).await;
    let pg_dir = place.pg_dir();
    let mut command = Command::new(program);
    command
        .arg("-D")
        .arg(&pg_dir)
        .arg("-k")
        .arg(place.data_dir().join("run"))
        .args(["-c", "listen_addresses="])
        .current_dir("/")
        .stderr(Stdio::null());
    as_server_user(&mut command, &pg_dir);
    let mut orphan = command.spawn().expect("a server nobody supervises");
    let ready = || std::fs::read_to_string(pg_dir.join("postmaster.pid"));
    eventually("the orphan", || {
        ready().is_ok_and(|text| text.contains("ready"))
    });
    // Reaped as by an init process; otherwise it would stay a zombie of this test.
    let reaper = std::thread::spawn(move || orphan.wait());

    let cluster = place.started().await;
    let status = reaper.join().expect("the reaper").expect("waited");
    assert!(status.success(), "a fast shutdown: {status}");
    let told = place.events.lock().clone();
    assert!(
        told.iter()
            .any(|event| matches!(event, ClusterEvent::StoppingOrphan { .. })),
        "{told:?}"
    );
    cluster.stop().await;
    place.starts_again_with(1).await;
}

/// Writes what a killed server leaves, naming `pid`.
fn leave_pid_file(place: &Place, pid: u32) {
    let pg_dir = place.pg_dir();
    let run = place.data_dir().join("run");
    let text = format!(
        "{pid}\n{}\n1700000000\n54322\n{}\n127.0.0.1\n  1  2\nready\n",
        pg_dir.display(),
        run.display()
    );
    std::fs::write(pg_dir.join("postmaster.pid"), text).expect("a pid file");
    let lock = format!("{pid}\n{}\n1700000000\n54322\n", pg_dir.display());
    std::fs::write(run.join(".s.PGSQL.54322.lock"), lock).expect("a socket lock");
}

#[tokio::test]
async fn a_pid_file_that_names_a_foreign_process() {
    let (place, _) = prepared(2).await;
    let mut command = Command::new("/bin/sleep");
    command.arg("600");
    as_server_user(&mut command, &place.pg_dir());
    let mut foreign = command.spawn().expect("sleep");
    leave_pid_file(&place, foreign.id());
    place.starts_again_with(2).await;
    assert!(
        foreign.try_wait().expect("asked").is_none(),
        "it was left alone"
    );
    foreign.kill().expect("kill");
    foreign.wait().expect("reap");
}

#[tokio::test]
async fn a_pid_file_that_names_a_zombie() {
    let (place, _) = prepared(3).await;
    let mut zombie = Command::new("/bin/true").spawn().expect("true");
    leave_pid_file(&place, zombie.id());
    place.starts_again_with(3).await;
    zombie.wait().expect("reap");
}

#[tokio::test]
async fn a_server_killed_with_its_daemon_recovers() {
    let place = Place::new();
    let mut daemon = super::daemon::Daemon::spawn(&place);
    store(&daemon.url(), 4).await;
    let pg_dir = place.pg_dir();
    let server = postmaster(&pg_dir);
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).expect("SIGKILL");
    daemon.kill();
    eventually("its processes to end", || processes_in(&pg_dir).is_empty());
    place.starts_again_with(4).await;
}

#[tokio::test]
async fn an_interrupted_initdb_is_made_again() {
    let place = Place::new();
    let half = place.data_dir().join("pg/18.init-4711");
    std::fs::create_dir_all(half.join("base")).expect("directories");
    std::fs::write(half.join("PG_VERSION"), "18\n").expect("a file");
    for directory in [place.data_dir(), place.data_dir().join("pg")] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).expect("chmod");
    }
    let cluster = place.started().await;
    assert!(!half.exists());
    store(&cluster.url(), 5).await;
    cluster.stop().await;
    place.starts_again_with(5).await;
}

#[tokio::test]
async fn a_state_file_without_its_database() {
    let (place, _) = prepared(6).await;
    std::fs::remove_dir_all(place.pg_dir()).expect("somebody removed it");
    place.events.lock().clear();
    let cluster: Cluster = place.started().await;
    let told = place.events.lock().clone();
    assert!(
        told.iter()
            .any(|event| matches!(event, ClusterEvent::Note(_))),
        "{told:?}"
    );
    cluster.stop().await;
}
