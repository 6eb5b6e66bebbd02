//! Changes: role × table × kind of change.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::server::Server;
use super::who::{WHO, Who, report};

const TABLES: &str = "
    create table public.m_open (id int primary key, owner text, body text);
    create table public.m_owned (id int primary key, owner text, body text);
    create table public.m_closed (id int primary key, owner text, body text);
    create table public.m_revoked (id int primary key, owner text, body text);
    create table public.m_column (id int primary key, owner text, body text);
    create table public.m_done (id int primary key);
    alter table public.m_open replica identity full;
    alter table public.m_owned replica identity full;
    alter table public.m_closed replica identity full;
    alter table public.m_revoked replica identity full;
    alter table public.m_column replica identity full;
    alter table public.m_owned enable row level security;
    alter table public.m_closed enable row level security;
    create policy own on public.m_owned to authenticated using (owner = auth.jwt() ->> 'sub');
    revoke all on public.m_revoked from anon, authenticated;
    revoke all on public.m_column from anon, authenticated;
    grant select (id, owner) on public.m_column to anon, authenticated;
    alter publication supabase_realtime add table public.m_open, public.m_owned, public.m_closed, public.m_revoked,
      public.m_column, public.m_done;
";
const NAMES: [&str; 5] = ["m_open", "m_owned", "m_closed", "m_revoked", "m_column"];

/// How much of a change a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// The row, old and new where there are both.
    Row,
    /// Its key and what else is no secret.
    Key,
    /// That something happened.
    Nothing,
    Unseen,
}

fn expected_sight(who: Who, table: &str, kind: &str) -> Sight {
    let guarded = matches!(table, "m_owned" | "m_closed");
    match (who, table, kind) {
        (who, ..) if who.has_no_token() => Sight::Unseen,
        // There is no row left that could be looked at: deletes tell the key, to everybody.
        (_, _, "DELETE") if guarded => Sight::Key,
        (who, ..) if who.is_service() => Sight::Row,
        (_, "m_open", _) | (Who::Ann, "m_owned", _) => Sight::Row,
        (_, "m_column", _) => Sight::Key,
        (_, "m_revoked", _) => Sight::Nothing,
        _ => Sight::Unseen,
    }
}

fn sight(data: &Value) -> Sight {
    let text = data.to_string();
    if text.contains("sesame") {
        Sight::Row
    } else if text.contains(r#""id":"#) {
        Sight::Key
    } else {
        Sight::Nothing
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_table_and_kind_of_change_is_told_what_it_should() {
    let server = Server::start().await;
    server.execute(TABLES).await;
    let names = NAMES.iter().copied().chain(["m_done"]);
    let bindings: Vec<Value> = names
        .map(|table| json!({"event": "*", "schema": "public", "table": table}))
        .collect();
    let mut clients = Vec::new();
    let mut wrong = Vec::new();
    for who in WHO {
        let mut client = who.connect(&server).await;
        let config = json!({"postgres_changes": bindings});
        let joined = who.join(&server, &mut client, "realtime:m", config).await;
        if joined.is_some() == who.has_no_token() {
            wrong.push(format!("{who:?} joins: {joined:?}"));
        }
        if joined.is_some() {
            clients.push((who, client));
        }
    }
    for table in NAMES {
        server
            .execute(&format!(
                "insert into {table} values (1, 'ann', 'sesame');
                 update {table} set body = 'sesame, again';
                 delete from {table}"
            ))
            .await;
        // Each row is looked up while it is there, as row level security judges by what is there now.
    }
    // Rows that are gone are seen by nobody, so those that must be seen stay.
    for table in NAMES {
        server
            .execute(&format!(
                "insert into {table} values (2, 'ann', 'sesame'); update {table} set body = 'sesame, again'"
            ))
            .await;
    }
    server.execute("insert into m_done values (1)").await;
    for (who, client) in &mut clients {
        let mut seen: BTreeMap<(String, String), Sight> = BTreeMap::new();
        loop {
            let data = client.change().await;
            let table = data["table"].as_str().unwrap().to_owned();
            if table == "m_done" {
                break;
            }
            let kind = data["type"].as_str().unwrap().to_owned();
            let row = &data[if kind == "DELETE" {
                "old_record"
            } else {
                "record"
            }];
            // The rows that were deleted at once may have been seen or not; they must not be seen better.
            let sight = sight(&data);
            let best = seen.entry((table, kind)).or_insert(sight);
            if row["id"] != 1 || sight == Sight::Row {
                *best = sight;
            }
        }
        for table in NAMES {
            for kind in ["INSERT", "UPDATE", "DELETE"] {
                let key = (table.to_owned(), kind.to_owned());
                let sight = seen.get(&key).copied().unwrap_or(Sight::Unseen);
                let expected = expected_sight(*who, table, kind);
                if sight != expected {
                    wrong.push(format!(
                        "{who:?} {table} {kind}: {sight:?}, not {expected:?}"
                    ));
                }
            }
        }
    }
    report(&wrong);
}
