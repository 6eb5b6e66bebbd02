//! The scratch server itself: databases are separate, templates are made once, nothing stays behind.

use std::sync::atomic::{AtomicUsize, Ordering};

use rowcall_stack::testing::{PrivateCluster, ServerEnd, TestCluster, TestDb};
use tokio_postgres::NoTls;

async fn exists(database: &str) -> bool {
    let (client, connection) =
        tokio_postgres::connect(&TestCluster::shared().await.url_of("postgres"), NoTls)
            .await
            .expect("the shared server");
    tokio::spawn(connection);
    let query = "select 1 from pg_database where datname = $1";
    !client
        .query(query, &[&database])
        .await
        .expect("pg_database")
        .is_empty()
}

#[tokio::test]
async fn each_test_has_its_own_database_and_drops_it() {
    let (one, two) = tokio::join!(TestDb::create(), TestDb::create());
    one.connect()
        .await
        .batch_execute("create table mine (id int)")
        .await
        .expect("create a table");
    let there = "select to_regclass('mine') is not null";
    let seen = |row: tokio_postgres::Row| row.get::<_, bool>(0);
    assert!(seen(
        one.connect()
            .await
            .query_one(there, &[])
            .await
            .expect("query")
    ));
    assert!(!seen(
        two.connect()
            .await
            .query_one(there, &[])
            .await
            .expect("query")
    ));

    let name = one.name().to_owned();
    assert!(exists(&name).await);
    drop(one);
    assert!(!exists(&name).await);
}

#[tokio::test]
async fn a_template_is_filled_once() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    async fn migrate(url: String) -> Result<(), tokio_postgres::Error> {
        RUNS.fetch_add(1, Ordering::SeqCst);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        let driver = tokio::spawn(connection);
        client
            .batch_execute("create table filled (id int); insert into filled values (7)")
            .await?;
        drop(client);
        driver.await.expect("the driver ends")
    }

    let (one, two) = tokio::join!(
        TestDb::from_template("filled once", migrate),
        TestDb::from_template("filled once", migrate),
    );
    for db in [&one, &two] {
        let row = db
            .connect()
            .await
            .query_one("select id from filled", &[])
            .await;
        assert_eq!(row.expect("the template's row").get::<_, i32>(0), 7);
    }
    // Zero when an earlier run of the same build left the template.
    assert!(RUNS.load(Ordering::SeqCst) <= 1);
}

#[tokio::test(start_paused = true)]
async fn paused_time_does_not_disturb_it() {
    let db = TestDb::create().await;
    let row = db.connect().await.query_one("show wal_level", &[]).await;
    assert_eq!(row.expect("show").get::<_, String>(0), "logical");
}

#[tokio::test]
async fn both_urls_log_in_with_the_password_only() {
    let db = TestDb::create().await;
    for url in [db.url(), db.socket_url()] {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("log in");
        tokio::spawn(connection);
        client.query_one("select 1", &[]).await.expect("a query");

        let (front, rest) = url.split_once("postgres:").expect("user and password");
        let (_, host) = rest.split_once('@').expect("a host");
        let wrong = format!("{front}postgres:wrong@{host}");
        let refused = tokio_postgres::connect(&wrong, NoTls).await.err();
        let code = refused.and_then(|error| error.code().cloned());
        assert_eq!(
            code,
            Some(tokio_postgres::error::SqlState::INVALID_PASSWORD)
        );
    }
}

#[tokio::test]
async fn a_server_of_ones_own_can_be_killed_and_started_again() {
    let cluster = PrivateCluster::start().await;
    let run = async |statement: &str| {
        let url = cluster.url_of("postgres");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        client.batch_execute(statement).await
    };
    run("create table kept (id int)").await.expect("a table");
    for how in [ServerEnd::Fast, ServerEnd::Immediate, ServerEnd::Kill] {
        cluster.end(how).await;
        run("select 1").await.expect_err("it has ended");
        cluster.start_again().await;
        run("insert into kept values (1)")
            .await
            .expect("the table is there");
    }
}
