//! Lists for people, by their plans: they read what they show, however many tasks there are.

use rowcall_stack::testing::{Plan, TestDb};
use tokio_postgres::Client;

use super::{config::PostgresConfig, pool::session_setup, statement};
use crate::migrate::{self, MigrateOptions};

const TASKS: u32 = 20_000;
/// Shown at once.
const PAGE: u32 = 50;
/// Pages read and sorted for one that is shown: every state has a branch, some have one for each table or count, and what comes
/// out of them is sorted once more.
const PARTS: u32 = 32;

/// Three tables, every state, and a word of somebody else's; nobody has analysed the table yet.
async fn fill(client: &Client) {
    let sql = format!(
        "set rowcall.quiet = on; insert into rtx_activities (source_table, created_at, status, retry_count, locked_at) \
         select 'public.t' || n % 3, now() - make_interval(secs => n), \
                case when n % 10 < 5 then 'completed' when n % 10 < 7 then 'pending' when n % 10 < 9 then 'failed' \
                     when n % 100 = 9 then 'claimed' when n % 100 = 19 then 'archived' else 'canceled' end, \
                case when n % 10 in (7, 8) then n % 4 else 0 end, case when n % 100 = 9 then now() end \
           from generate_series(1, {TASKS}) n"
    );
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn lists_read_what_they_show() {
    let db = TestDb::create().await;
    let mut client = db.connect().await;
    migrate::apply(&mut client, MigrateOptions::default())
        .await
        .unwrap();
    fill(&client).await;
    let config = PostgresConfig::new(&db.socket_url(), "test").unwrap();
    client.batch_execute(&session_setup(&config)).await.unwrap();
    let list = statement::list();
    for (states, source, attention, offset) in [
        ("null", "null", "false", 0),
        ("null", "null", "false", 100),
        ("'{completed}'", "null", "false", 0),
        ("'{pending}'", "null", "false", 0),
        ("'{pending}'", "'public.t2'", "false", 0),
        ("'{pending}'", "'public.none'", "false", 0),
        ("'{failed,canceled}'", "null", "false", 0),
        ("'{failed}'", "'public.t1'", "true", 0),
        ("'{canceled}'", "null", "false", 0),
        ("'{completed,pending}'", "'public.t1'", "false", 50),
    ] {
        let values = format!("{states}, {source}, null, {attention}, 3, {PAGE}, {offset}");
        let types = "text[], text, text, boolean, int, bigint, bigint";
        let plan = Plan::of(&client, &list, types, &values).await;
        let bound = f64::from(PARTS * (PAGE + offset));
        assert_eq!(plan.sequential, Vec::<String>::new(), "{}", plan.text);
        assert!(
            plan.read < bound && plan.sorted < bound,
            "({values}) read {} rows and sorted {}: {}",
            plan.read,
            plan.sorted,
            plan.text
        );
    }
}
