//! The ordinary way: make, start, stop, start again.

use rowcall_stack::cluster::{ClusterEvent, PortChoice};

use super::{Place, connect, is_root, processes_in, show, store};

#[tokio::test]
async fn makes_a_database_and_keeps_it() {
    let place = Place::new();
    let cluster = place.started().await;
    assert_eq!(cluster.info().pg_dir, place.pg_dir());
    store(&cluster.url(), 1).await;
    // Connected while it stops: a fast shutdown does not wait for clients.
    let idle = connect(&cluster.socket_url()).await;
    cluster.stop().await;
    assert!(idle.query_one("select 1", &[]).await.is_err());
    assert_eq!(processes_in(&place.pg_dir()), Vec::<i32>::new());

    place.events.lock().clear();
    place.starts_again_with(1).await;
    let made_again = place
        .events
        .lock()
        .iter()
        .any(|event| matches!(event, ClusterEvent::Initialising { .. }));
    assert!(!made_again);
}

#[tokio::test]
async fn settings_in_effect() {
    let place = Place::new();
    let cluster = place.started().await;
    let client = connect(&cluster.url()).await;
    for (setting, expected) in [
        ("wal_level", "logical"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("max_slot_wal_keep_size", "1GB"),
        ("wal_writer_delay", "10ms"),
        ("timezone", "UTC"),
        ("server_encoding", "UTF8"),
        ("cluster_name", "rowcall"),
        ("jit", "off"),
    ] {
        assert_eq!(show(&client, setting).await, expected, "{setting}");
    }
    let folded = "select lower('ÄÖÉ') = 'äöé' and 'Ärger' ilike 'ärger'";
    let row = client.query_one(folded, &[]).await.expect("a query");
    assert!(row.get::<_, bool>(0), "case is mapped beyond ASCII");
    cluster.stop().await;
}

#[tokio::test]
async fn rules_let_nobody_in_without_a_password() {
    let place = Place::new();
    let cluster = place.started().await;
    let client = connect(&cluster.url()).await;
    let rules = "select distinct auth_method from pg_hba_file_rules where error is null";
    let rows = client.query(rules, &[]).await.expect("the rules");
    let methods: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(methods, ["scram-sha-256"]);

    let secret = std::fs::metadata(place.data_dir().join("secret/postgres")).expect("the secret");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o777,
        0o600
    );
    assert!(!format!("{cluster:?}").contains(&password_of(&cluster.url())));
    cluster.stop().await;
}

fn password_of(url: &str) -> String {
    let (_, rest) = url.split_once("postgres:").expect("a password");
    rest.split_once('@').expect("a host").0.to_owned()
}

#[tokio::test]
async fn the_server_never_runs_as_root_and_not_in_our_session() {
    let place = Place::new();
    let cluster = place.started().await;
    let pid = super::postmaster(&place.pg_dir());
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.expect(name)
            .split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert!(
        !line("Uid:").split(' ').any(|uid| uid == "0"),
        "{}",
        line("Uid:")
    );
    if is_root() {
        assert_eq!(line("Groups:"), "", "no group of root's is kept");
    }
    assert_eq!(
        nix::unistd::getsid(Some(pid)),
        Ok(pid),
        "a session of its own"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_left_alone() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();

    let mut fixed = place;
    fixed.config.port = PortChoice::Fixed(port);
    let error = fixed.start().await.expect_err("it is taken");
    assert_eq!(error.code(), "cluster-port");
    assert!(error.to_string().contains(&port.to_string()), "{error}");

    fixed.config.port = PortChoice::NextFree(port);
    let cluster = fixed.started().await;
    assert!(cluster.port() > port);
    cluster.stop().await;
}

#[tokio::test]
async fn a_path_too_long_for_a_socket() {
    let top = rowcall_stack::testing::scratch_dir();
    let long = top.path().join("x".repeat(90));
    std::fs::create_dir(&long).expect("a directory");
    let deep = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(&long)
        .expect("a directory");
    let place = Place::inside(deep);
    let cluster = place.started().await;
    assert!(!cluster.info().socket_dir.starts_with(place.data_dir()));
    store(&cluster.socket_url(), 3).await;
    let socket_dir = cluster.info().socket_dir.clone();
    cluster.stop().await;
    place.starts_again_with(3).await;
    std::fs::remove_dir_all(socket_dir).expect("clean up");
}
