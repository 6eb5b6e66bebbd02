//! `rowcall setup`, as people use it: any table they have, twice, and back again.

use std::process::Output;

use rowcall_stack::testing::scratch_dir;
use serde_json::{Value, json};

use crate::support::{Database, command};

async fn setup(db: &Database, arguments: &[&str]) -> (i32, String, String) {
    let dir = scratch_dir();
    let Output {
        status,
        stdout,
        stderr,
    } = command(dir.path())
        .arg("setup")
        .args(arguments)
        .env("ROWCALL_DATABASE_URL", db.url())
        .output()
        .await
        .expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

async fn tasks(db: &Database) -> Vec<(String, Value)> {
    let sql =
        "select source_table, source_key from rtx_activities order by source_table, source_key";
    let rows = db.client.query(sql, &[]).await.expect("tasks");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn tables_of_every_kind_are_set_up_twice_and_removed() {
    let db = Database::create().await;
    db.client
        .batch_execute(
            "create table tickets (id uuid primary key); \
             create schema \"My Shop\"; \
             create table \"My Shop\".\"Order Items\" (\"Order\" int, \"Line\" text, note text, primary key (\"Order\", \"Line\")); \
             create table parts (id int, region text, primary key (id, region)) partition by list (region); \
             create table parts_eu partition of parts for values in ('eu'); \
             create table loose (note text)",
        )
        .await
        .unwrap();
    let names = ["tickets", "My Shop.Order Items", "parts"];
    let all: Vec<&str> = names.iter().flat_map(|name| ["--table", name]).collect();
    for how in ["become tasks from now on", "become tasks already"] {
        let (code, out, said) =
            setup(&db, &[&all[..], &["--events", "insert,update"]].concat()).await;
        assert_eq!((code, out.as_str()), (0, ""), "{said}");
        assert_eq!(said.matches(how).count(), 3, "{said}");
    }
    let write = "insert into tickets values ('00000000-0000-0000-0000-000000000001'); \
                 insert into \"My Shop\".\"Order Items\" values (7, 'a', 'n'); insert into parts_eu values (1, 'eu'); \
                 delete from tickets";
    db.client.batch_execute(write).await.unwrap();
    let made = [
        ("My Shop.Order Items", json!({ "Order": 7, "Line": "a" })),
        ("public.parts", json!({ "id": 1, "region": "eu" })),
        (
            "public.tickets",
            json!({ "id": "00000000-0000-0000-0000-000000000001" }),
        ),
    ];
    let made = made.map(|(table, key)| (table.to_owned(), key));
    assert_eq!(tasks(&db).await, made);
    let (code, out, _) = setup(&db, &["--list", "--json"]).await;
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, listed.as_array().map(Vec::len)),
        (0, Some(3)),
        "{listed}"
    );
    let (code, _, said) = setup(&db, &["--table", "loose"]).await;
    assert_eq!(code, 1);
    assert!(
        said.starts_with("error[setup-no-key]: public.loose has no primary key")
            && said.contains("alter table"),
        "{said}"
    );
    for how in ["no longer become tasks", "was not captured"] {
        let (code, _, said) = setup(&db, &[&all[..], &["--remove"]].concat()).await;
        assert_eq!((code, said.matches(how).count()), (0, 3), "{said}");
    }
    db.client
        .batch_execute(
            "insert into tickets values (gen_random_uuid()); insert into parts values (2, 'eu')",
        )
        .await
        .unwrap();
    assert_eq!(
        tasks(&db).await,
        made,
        "tasks already made stay, new ones do not come"
    );
}
