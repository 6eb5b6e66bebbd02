//! C4, C9: pgmq gets into a database, or is found there.

use rowcall_backend::queue::{
    Database, Install, install,
    install::{EMBEDDED_VERSION, Origin, find},
};
use rowcall_stack::testing::TestDb;

use super::{VERSIONS, as_extension, database, name, store};

#[tokio::test]
async fn c4_installs_as_an_owner_who_is_no_superuser() {
    let db = TestDb::create().await;
    let (owner, admin) = (db.unique("owner"), db.connect().await);
    admin
        .batch_execute(&format!(
            "create role {owner} login password 'x'; alter database {} owner to {owner}",
            db.name()
        ))
        .await
        .unwrap();
    let mut url = url::Url::parse(&db.url()).unwrap();
    url.set_username(&owner).unwrap();
    url.set_password(Some("x")).unwrap();
    let database = Database::new(url.as_str(), 1).unwrap();
    assert_eq!(find(&database).await.unwrap(), None);
    let pgmq = install(&database, Install::default()).await.unwrap();
    assert_eq!(
        (pgmq.origin, pgmq.version.as_deref()),
        (Origin::Sql, Some(EMBEDDED_VERSION))
    );
    // Again, and from a second process at the same time.
    let (first, second) = tokio::join!(
        install(&database, Install::default()),
        install(&database, Install::default())
    );
    assert_eq!((first.unwrap(), second.unwrap()), (pgmq.clone(), pgmq));
    let store = rowcall_backend::queue::QueueStore::new(database);
    store
        .create(&name("q"), rowcall_backend::queue::Kind::Logged)
        .await
        .unwrap();
    assert_eq!(store.list().await.unwrap().len(), 1);
    drop(store);
    admin
        .batch_execute(&format!(
            "drop owned by {owner} cascade; alter database {} owner to postgres; drop role {owner}",
            db.name()
        ))
        .await
        .unwrap();
}

#[tokio::test]
async fn c9_an_extension_that_is_there_is_used() {
    for version in ["1.4.4", "1.5.1"] {
        let db = TestDb::create().await;
        as_extension(&db.connect().await, version).await.unwrap();
        let database = Database::new(&db.url(), 1).unwrap();
        let pgmq = install(&database, Install::default()).await.unwrap();
        assert_eq!(
            (pgmq.origin, pgmq.version.as_deref()),
            (Origin::Extension, Some(version))
        );
        let newer: bool = db
            .connect()
            .await
            .query_one(
                "select to_regprocedure('pgmq.read_grouped(text,integer,integer)') is not null",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert!(!newer, "nothing of 1.13 may be mixed into {version}");
    }
}

#[tokio::test]
async fn c9_sql_of_another_installer_is_used() {
    let db = TestDb::create().await;
    let sql = include_str!("../../../sql/queue/pgmq/1.13.0.sql");
    db.connect().await.batch_execute(sql).await.unwrap();
    let pgmq = install(&Database::new(&db.url(), 1).unwrap(), Install::default())
        .await
        .unwrap();
    assert_eq!((pgmq.origin, pgmq.version), (Origin::Sql, None));
}

/// pgmq 1.10 drops the type that Supabase's own wrappers return, and the wrappers go with it; ours stay and go on working.
#[tokio::test]
async fn c9_the_data_api_survives_the_upgrade_to_1_10() {
    let db = database("1.5.1").await;
    let client = db.connect().await;
    client
        .batch_execute(
            "select pgmq.create('q'); drop type pgmq.message_record cascade; \
             create type pgmq.message_record as (msg_id bigint, read_ct integer, enqueued_at timestamptz, \
             last_read_at timestamptz, vt timestamptz, message jsonb, headers jsonb); \
             alter table pgmq.q_q add column last_read_at timestamptz",
        )
        .await
        .unwrap();
    // The newest pgmq's read and pop.
    let newest = include_str!("../../../sql/queue/pgmq/1.13.0.sql");
    for start in ["CREATE FUNCTION pgmq.read(", "CREATE FUNCTION pgmq.pop("] {
        let from = newest.find(start).unwrap();
        let to = from
            + newest[from..].find("$$ LANGUAGE plpgsql;").unwrap()
            + "$$ LANGUAGE plpgsql;".len();
        client.batch_execute(&newest[from..to]).await.unwrap();
    }
    client
        .batch_execute("select pgmq_public.send('q', '{\"a\": 1}')")
        .await
        .unwrap();
    let row = client
        .query_one(
            "select msg_id, last_read_at is not null from pgmq_public.read('q', 0, 1)",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (1, true));
    let row = client
        .query_one("select msg_id from pgmq_public.pop('q')", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn c8_c9_helpers_install_on_every_version() {
    for version in VERSIONS {
        let db = database(version).await;
        let store = store(&db);
        store
            .create(&name("Mixed-Case"), rowcall_backend::queue::Kind::Logged)
            .await
            .unwrap();
        let client = db.connect().await;
        for _ in 0..2 {
            client
                .batch_execute("select rowcall_queue.enable_wake('mixed-case')")
                .await
                .unwrap();
        }
        let triggers: i64 = client
            .query_one(
                "select count(*) from pg_trigger where tgname = 'rowcall_wake'",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(triggers, 1, "{version}");
        client
            .batch_execute("select rowcall_queue.disable_wake('Mixed-Case')")
            .await
            .unwrap();
    }
}
