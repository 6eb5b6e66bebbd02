//! The set-up of a database: complete on an empty one, without any effect on one that has it all.

use rowcall_stack::bootstrap::apply;
use rowcall_stack::testing::TestDb;
use tokio_postgres::Client;

/// Everything that set-up could touch, as text.
async fn state(client: &Client) -> String {
    client
        .query_one(include_str!("catalog_state.sql"), &[])
        .await
        .expect("the catalog's state")
        .get(0)
}

#[tokio::test]
async fn an_empty_database_gets_everything() {
    let db = TestDb::create().await;
    let client = db.connect().await;
    apply(&client).await.expect("applied");
    let row = client
        .query_one(
            "select array(select rolname::text from pg_roles
                           where rolname in ('anon', 'authenticated', 'service_role', 'authenticator') order by 1),
                    auth.uid() is null and auth.role() is null and auth.email() is null and auth.jwt() is null,
                    exists (select from pg_publication where pubname = 'supabase_realtime'),
                    to_regclass('auth.users') is not null,
                    (select count(*) from pg_event_trigger where evtname like 'pgrst%'),
                    (select rolbypassrls and not rolcanlogin from pg_roles where rolname = 'service_role'),
                    (select not rolinherit from pg_roles where rolname = 'authenticator')",
            &[],
        )
        .await
        .expect("a row");
    assert_eq!(
        row.get::<_, Vec<String>>(0),
        ["anon", "authenticated", "authenticator", "service_role"]
    );
    assert!(row.get(1) && row.get(2) && row.get(3) && row.get(5) && row.get(6));
    assert_eq!(row.get::<_, i64>(4), 2);
    client
        .batch_execute(
            "create table public.t (id int);
             set request.jwt.claims = '{\"sub\": \"00000000-0000-0000-0000-00000000000a\", \"role\": \"x\", \"email\": \"e\"}';
             set role anon;
             insert into public.t values (1)",
        )
        .await
        .expect("anon may use new tables of public");
    let row = client
        .query_one("select auth.uid()::text, auth.role(), auth.email()", &[])
        .await
        .expect("a row");
    assert_eq!(
        row.get::<_, &str>(0),
        "00000000-0000-0000-0000-00000000000a"
    );
    assert_eq!((row.get::<_, &str>(1), row.get::<_, &str>(2)), ("x", "e"));
}

#[tokio::test]
async fn applying_again_changes_nothing() {
    let db = TestDb::create().await;
    let client = db.connect().await;
    apply(&client).await.expect("applied");
    // What somebody took away or changed since stays that way.
    client
        .batch_execute(
            "alter default privileges in schema public revoke all on tables from anon;
             alter publication supabase_realtime set (publish = 'insert');
             create or replace function auth.uid() returns uuid language sql stable as 'select null::uuid';
             create table public.mine (id int)",
        )
        .await
        .expect("changed");
    let before = state(&client).await;
    apply(&client).await.expect("applied again");
    assert_eq!(state(&client).await, before);
    assert!(
        before.contains("supabase_realtime") && before.contains("pgrst_ddl_watch"),
        "{before}"
    );
}

#[tokio::test]
async fn where_all_is_there_any_role_will_do() {
    let db = TestDb::create().await;
    let client = db.connect().await;
    apply(&client).await.expect("applied");
    let before = state(&client).await;
    let plain = db.unique("plain");
    client
        .batch_execute(&format!("create role {plain}; set role {plain}"))
        .await
        .expect("a role");
    apply(&client).await.expect("nothing to do");
    client
        .batch_execute(&format!("reset role; drop role {plain}"))
        .await
        .expect("dropped");
    assert_eq!(state(&client).await, before);
}

#[tokio::test]
async fn lack_of_rights_is_told_and_leaves_nothing_behind() {
    let db = TestDb::create().await;
    let client = db.connect().await;
    // The cluster has the roles by now, or gets them here; what is missing is in the database.
    apply(&TestDb::create().await.connect().await)
        .await
        .expect("applied elsewhere");
    let before = state(&client).await;
    let plain = db.unique("plain");
    client
        .batch_execute(&format!("create role {plain}; set role {plain}"))
        .await
        .expect("a role");
    let error = apply(&client).await.expect_err("no rights").to_string();
    assert!(error.contains("Connect as a superuser"), "{error}");
    client
        .batch_execute(&format!("rollback; reset role; drop role {plain}"))
        .await
        .expect("dropped");
    assert_eq!(state(&client).await, before);
}

#[tokio::test]
async fn databases_are_set_up_side_by_side() {
    let databases = futures_util::future::join_all((0..4).map(|_| TestDb::create())).await;
    let applied = databases
        .iter()
        .map(async |db| apply(&db.connect().await).await);
    for result in futures_util::future::join_all(applied).await {
        result.expect("applied");
    }
}
