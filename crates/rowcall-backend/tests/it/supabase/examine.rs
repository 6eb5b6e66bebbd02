//! What a project tells of itself, and to whom.

use std::{sync::Arc, time::Duration};

use rowcall_backend::supabase::{ExaminedTable, SupabaseBackend};
use rowcall_core::{Clock, EventSet, FixedClock, Selector, TableName};

use super::project::{Project, Setup, SystemClock};

const TABLES: &str = "create table hidden (id int primary key); revoke all on hidden from anon, authenticated;
    create table seen (id int primary key); grant select on seen to anon;
    create table told (id int primary key); revoke all on told from anon, authenticated;
    alter publication supabase_realtime add table told;
    create schema vault; create table vault.keys (id int primary key); grant select on vault.keys to anon;
    notify pgrst, 'reload schema'";

/// Whoever has the key that stands in every web page learns nothing of tables that are not for it.
#[tokio::test]
async fn strangers_cannot_ask_which_tables_there_are() {
    let project = Project::start(Setup::Ours).await;
    project.client.batch_execute(TABLES).await.unwrap();
    let names = [
        "public.hidden",
        "public.missing",
        "public.seen",
        "public.told",
        "vault.keys",
        "auth.users",
        "rowcall.captures",
        "pg_catalog.pg_authid",
    ];
    let mut config = project.config_with("m1", project.keys.anon_key());
    config.selectors = names
        .iter()
        .map(|name| Selector {
            table: name.parse().unwrap(),
            events: EventSet::ALL,
            filter: None,
        })
        .collect();
    let (backend, _driver) = SupabaseBackend::new(config).unwrap();
    let examined = backend.probe().await.unwrap().examined.expect("it tells");
    let of = |name: &str| -> ExaminedTable {
        let name: TableName = name.parse().unwrap();
        *examined.table(&name).expect("it was asked for")
    };
    let missing = of("public.missing");
    assert!(!missing.exists);
    for name in [
        "public.hidden",
        "vault.keys",
        "auth.users",
        "rowcall.captures",
        "pg_catalog.pg_authid",
    ] {
        assert_eq!(of(name), missing, "{name}");
    }
    assert!(of("public.seen").exists && of("public.seen").readable);
    // What Realtime tells of is no secret: the list of published tables is there for everybody.
    assert!(of("public.told").exists && of("public.told").published);
    assert!(!of("public.told").readable);
}

#[tokio::test]
async fn a_clock_that_is_wrong_shows() {
    let project = Project::start(Setup::Published).await;
    for behind in [Duration::ZERO, Duration::from_hours(1)] {
        let mut config = project.config("m1");
        config.clock = Arc::new(FixedClock::at(SystemClock.now() - behind));
        let (backend, _driver) = SupabaseBackend::new(config).unwrap();
        let ahead = backend.probe().await.unwrap().clock_ahead.expect("a time");
        let wrong = ahead - i64::try_from(behind.as_secs()).unwrap();
        assert!(wrong.abs() < 60, "{ahead}");
    }
}
