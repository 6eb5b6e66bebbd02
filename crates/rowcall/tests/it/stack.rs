//! The Supabase-compatible API of the running binary: `rowcall stack` in front of a database, `rowcall up` over its own.

mod browser;

use std::process::Stdio;

use rowcall_stack::testing::{
    PrivateCluster, TestCluster, TestDb, TlsFront, reserved_port, scratch_dir,
};
use tokio::process::Command;

use crate::support::{PATIENCE, Settings, Stack, clients, command, keys, run, until};

/// What the walk of `tests/clients/js/everything.mjs` needs.
const DIARY: &str = "
    create table public.diary (id bigint generated always as identity primary key,
                               owner uuid not null default auth.uid(), text text not null);
    alter table public.diary enable row level security;
    create policy own on public.diary to authenticated using (owner = auth.uid()) with check (owner = auth.uid());
    alter publication supabase_realtime add table public.diary;
";

/// Runs `everything.mjs` in Node.
async fn walk(settings: &Settings, url: &str) {
    let script = Command::new("node")
        .arg(clients().join("js/stack.mjs"))
        .env("SUPABASE_URL", url)
        .env("PUBLISHABLE_KEY", &settings["PUBLISHABLE_KEY"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, script)
        .await
        .expect("the script ends in time")
        .expect("node runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn supabase_js_works_against_a_database_of_ones_own() {
    let db = TestDb::create().await;
    let stack = Stack::start(&db.url()).await;
    let sql = db.connect().await;
    sql.batch_execute(DIARY).await.expect("a table");
    walk(&stack.settings, stack.url()).await;
    let log = stack.log();
    for name in ["SECRET_KEY", "SERVICE_ROLE_KEY", "JWT_SECRET"] {
        assert!(!log.contains(&stack.settings[name]), "{name} is not logged");
    }
    assert!(
        log.contains("max_slot_wal_keep_size"),
        "this server does not bound slots, and that is said: {log}"
    );
    stack.stop().await;
    let left = sql
        .query_one(
            "select count(*) from pg_replication_slots where database = current_database()",
            &[],
        )
        .await
        .expect("slots");
    assert_eq!(left.get::<_, i64>(0), 0, "no slot is left to fill the disk");
}

#[tokio::test]
async fn keys_and_the_slot_survive_a_restart_where_slots_are_bounded() {
    let cluster = PrivateCluster::with(&["max_slot_wal_keep_size=64MB"]).await;
    let url = cluster.url_of("postgres");
    let stack = Stack::start(&url).await;
    assert!(!stack.log().contains("max_slot_wal_keep_size"));
    let settings = stack.settings.clone();
    let port = stack.url().rsplit(':').next().expect("a port").to_owned();
    let dir = stack.stop().await;
    let sql = rowcall_backend::postgres::connect(&url)
        .await
        .expect("the server answers");
    let slots = "select count(*) from pg_replication_slots where not temporary";
    let kept: i64 = sql.query_one(slots, &[]).await.expect("slots").get(0);
    assert_eq!(kept, 1, "the slot waits for the next start");
    let stack = Stack::start_in(dir, &url, &port).await;
    assert_eq!(
        stack.settings, settings,
        "clients need not be told anything"
    );
    stack.stop().await;
}

#[tokio::test]
async fn what_a_database_lacks_is_told_before_anything_is_changed() {
    let cluster = PrivateCluster::with(&["wal_level=replica"]).await;
    let url = cluster.url_of("postgres");
    let sql = rowcall_backend::postgres::connect(&url)
        .await
        .expect("the server answers");
    sql.batch_execute("create role \"my app\" login password 'secret'")
        .await
        .expect("a role");
    let plain = url
        .replace("//postgres:", "//my%20app:")
        .replace(url.split([':', '@']).nth(2).expect("a password"), "secret");
    let dir = scratch_dir();
    for (url, parts) in [
        (
            &url,
            &["wal_level=replica", "alter system set wal_level"][..],
        ),
        (
            &plain,
            &[
                "wal_level=replica",
                "alter role \"my app\" with replication",
                "the roles anon, authenticated, service_role, authenticator are missing",
                "grant create on database postgres to \"my app\"",
                "nothing was changed",
            ],
        ),
    ] {
        let output = command(dir.path())
            .args(["stack", "--port", "0"])
            .env("ROWCALL_DATABASE_URL", url)
            .output()
            .await
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{text}");
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let made = "select count(*) from pg_roles where rolname in ('anon', 'authenticator')";
    let made: i64 = sql.query_one(made, &[]).await.expect("roles").get(0);
    assert_eq!(made, 0);
}

#[tokio::test]
async fn a_database_must_be_named_and_be_there() {
    let dir = scratch_dir();
    let output = run(dir.path(), &["stack"]).await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--database-url"), "{text}");
    let port = reserved_port();
    let url = format!("postgresql://postgres:pw@127.0.0.1:{port}/postgres");
    let output = command(dir.path())
        .args(["stack", "--port", "0"])
        .env("ROWCALL_DATABASE_URL", url)
        .output()
        .await
        .expect("it runs");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}

#[tokio::test]
async fn a_server_that_wants_tls_is_served_and_its_certificate_checked() {
    let cluster = TestCluster::shared().await;
    let front = TlsFront::before(cluster.port(), "localhost").await;
    let db = TestDb::create().await;
    let roots = front.roots();
    let url = front.url(
        &db.url(),
        &format!("sslmode=verify-full&sslrootcert={}", roots.display()),
    );
    let stack = Stack::start(&url).await;
    let sql = db.connect().await;
    sql.batch_execute(DIARY).await.expect("a table");
    walk(&stack.settings, stack.url()).await;
    stack.stop().await;
    let stranger = TlsFront::before(cluster.port(), "localhost").await;
    let url = front.url(
        &db.url(),
        &format!(
            "sslmode=verify-full&sslrootcert={}",
            stranger.roots().display()
        ),
    );
    let dir = scratch_dir();
    let output = command(dir.path())
        .args(["stack", "--port", "0"])
        .env("ROWCALL_DATABASE_URL", url)
        .output()
        .await
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("sslrootcert"), "{text}");
    assert_eq!(front.refused(), 0, "nothing is tried without TLS");
}

#[tokio::test]
async fn the_daemon_serves_its_own_database_on_the_next_free_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let wanted = taken.local_addr().expect("its address").port();
    let dir = scratch_dir();
    let log = dir.path().join("daemon.log");
    let mut daemon = command(dir.path())
        .args(["up", "--api-port", "0", "--stack-port"])
        .arg(wanted.to_string())
        // Where the server's programs may have been put by the tests' set-up.
        .env("HOME", std::env::var_os("HOME").unwrap_or_default())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("the daemon starts");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let url = until("the daemon says where the API is", async || {
        said()
            .lines()
            .find_map(|line| line.trim().strip_prefix("supabase").map(str::trim))
            .map(str::to_owned)
            .ok_or_else(said)
    })
    .await;
    assert_ne!(url, format!("http://127.0.0.1:{wanted}"));
    let database = run(dir.path(), &["db", "url"]).await;
    let database = String::from_utf8_lossy(&database.stdout).trim().to_owned();
    let sql = rowcall_backend::postgres::connect(&database)
        .await
        .expect("the database answers");
    sql.batch_execute(DIARY).await.expect("a table");
    walk(&keys(dir.path()).await, &url).await;
    let pid = daemon.id().and_then(|id| i32::try_from(id).ok());
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.expect("it runs")),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("the signal is sent");
    let status = tokio::time::timeout(PATIENCE, daemon.wait())
        .await
        .expect("it stops")
        .expect("its status");
    assert!(status.success(), "{}", said());
}
