//! The list, by its plan: it reads what it shows, however many activities there are.

use rowcall_backend::migrate::{self, MigrateOptions};
use rowcall_stack::testing::{Plan, TestDb};

use super::{LIST, PLANS};

const ACTIVITIES: u32 = 20_000;
/// Shown at once.
const PAGE: u32 = 50;
/// Pages read and sorted for one that is shown: every state has a branch, some have one for each table or count, and what comes
/// out of them is sorted once more.
const PARTS: u32 = 32;

#[tokio::test]
async fn a_list_reads_what_it_shows() {
    let db = TestDb::create().await;
    let mut client = db.connect().await;
    migrate::apply(&mut client, MigrateOptions::default())
        .await
        .unwrap();
    let fill = format!(
        "set rowcall.quiet = on; insert into rtx_activities (created_at, status, retry_count, locked_at) \
         select now() - make_interval(secs => n), \
                case when n % 10 < 5 then 'completed' when n % 10 < 7 then 'pending' when n % 10 < 9 then 'failed' \
                     when n % 100 = 9 then 'claimed' when n % 100 = 19 then 'archived' else 'canceled' end, \
                case when n % 10 in (7, 8) then n % 4 else 0 end, case when n % 100 = 9 then now() end \
           from generate_series(1, {ACTIVITIES}) n; {PLANS}"
    );
    client.batch_execute(&fill).await.unwrap();
    for (status, offset) in [
        ("null", 0),
        ("null", 200),
        ("'pending'", 0),
        ("'completed'", 0),
        ("'failed'", 0),
        ("'claimed'", 0),
        ("'canceled'", 0),
        ("'archived'", 0),
        ("'unknown'", 0),
    ] {
        let values = format!("{status}, {PAGE}, {offset}");
        let plan = Plan::of(&client, &LIST, "text, bigint, bigint", &values).await;
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

/// Every status is in some branch, whatever it is, and the newest comes first across them.
#[tokio::test]
async fn a_list_forgets_none_and_keeps_the_order() {
    let db = TestDb::create().await;
    let mut client = db.connect().await;
    migrate::apply(&mut client, MigrateOptions::default())
        .await
        .unwrap();
    let fill = "insert into rtx_activities (raw_data, created_at, status, retry_count, source_table) \
                select to_jsonb(n), case when n > 2 then now() - make_interval(secs => n) end, \
                       (array[null, 'pending', 'claimed', 'processing', 'completed', 'failed', 'canceled', 'archived', ''])[n % 9 + 1], \
                       case when n % 4 > 0 then n % 4 end, 'public.t' || n % 5 \
                  from generate_series(1, 200) n";
    client.batch_execute(fill).await.unwrap();
    let mut all = Vec::new();
    for offset in (0..240).step_by(40) {
        let rows = client
            .query(
                LIST.as_str(),
                &[&None::<String>, &40_i64, &i64::from(offset)],
            )
            .await
            .unwrap();
        all.extend(rows.iter().map(|row| number(row.get(0))));
    }
    // The two without a time come first, in the order of their ids.
    all[..2].sort_unstable();
    assert_eq!(all, (1..=200).collect::<Vec<i64>>());
    for status in ["pending", "claimed", "", "archived"] {
        let rows = client
            .query(LIST.as_str(), &[&status, &300_i64, &0_i64])
            .await
            .unwrap();
        let expected = (1..=200).filter(|n: &i64| match status {
            "pending" => n % 9 < 2,
            "claimed" => n % 9 == 2,
            "archived" => n % 9 == 7,
            _ => n % 9 == 8,
        });
        let shown: Vec<i64> = rows.iter().map(|row| number(row.get(0))).collect();
        let mut sorted = shown.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected.collect::<Vec<_>>(), "{status}");
    }
}

fn number(json: &str) -> i64 {
    let row: serde_json::Value = serde_json::from_str(json).unwrap();
    row["raw_data"].as_i64().unwrap()
}
