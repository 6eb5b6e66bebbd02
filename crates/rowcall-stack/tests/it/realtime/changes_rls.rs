use std::collections::BTreeMap;

use rowcall_realtime::Version;
use serde_json::{Value, json};

use super::changes::server;
use super::client::Client;
use super::server::Server;

const NOTES: &str = "
    create table public.notes (id int primary key, owner text, body text);
    alter table public.notes enable row level security;
    create policy own on public.notes for select to authenticated using (owner = auth.jwt() ->> 'sub');
    alter publication supabase_realtime add table public.notes;
";

fn notes() -> Value {
    json!([{"event": "*", "schema": "public", "table": "notes"}])
}

async fn user(server: &Server, name: &str) -> Client {
    let token = server.token("authenticated", &json!({"sub": name}));
    let mut client = Client::connect(server, Version::V2, &token).await;
    client.join_changes("realtime:notes", notes()).await;
    client
}

/// Ids of the changes that come before the row with id 0, which everybody may see.
async fn seen(client: &mut Client) -> Vec<(String, i64)> {
    let mut seen = Vec::new();
    loop {
        let change = client.change().await;
        let row = change.get("record").unwrap_or(&change["old_record"]);
        let id = row["id"].as_i64().unwrap();
        if id == 0 {
            return seen;
        }
        seen.push((change["type"].as_str().unwrap().to_owned(), id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_token_sees_its_rows_and_service_role_sees_all() {
    let server = server(NOTES).await;
    server
        .execute("create policy everybody on public.notes for select to anon, authenticated using (id = 0)")
        .await;
    let mut owner = user(&server, "ann").await;
    let mut bob = user(&server, "bob").await;
    let mut anon = Client::anon(&server).await;
    anon.join_changes("realtime:notes", notes()).await;
    let mut service = Client::service(&server).await;
    service.join_changes("realtime:notes", notes()).await;
    server
        .execute(
            "insert into notes values (1, 'ann'), (2, 'bob'), (3, 'nobody');
             update notes set owner = 'bob' where id = 1;
             insert into notes values (0, 'x')",
        )
        .await;
    let insert = |id| ("INSERT".to_owned(), id);
    let update = |id| ("UPDATE".to_owned(), id);
    // One batch is one state of the table: a row that changed hands in it is the new owner's.
    assert!(
        seen(&mut owner)
            .await
            .iter()
            .all(|change| *change == insert(1))
    );
    let bobs = seen(&mut bob).await;
    assert!(
        bobs.contains(&insert(2)) && bobs.contains(&update(1)),
        "{bobs:?}"
    );
    assert_eq!(seen(&mut anon).await, []);
    assert_eq!(
        seen(&mut service).await,
        [insert(1), insert(2), insert(3), update(1)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_tell_everybody_the_key_and_no_more() {
    let server = server(NOTES).await;
    server
        .execute("alter table notes replica identity full")
        .await;
    let mut bob = user(&server, "bob").await;
    server
        .execute("insert into notes values (1, 'ann', 'secret'); delete from notes")
        .await;
    let deleted = bob.change().await;
    assert_eq!(deleted["type"], "DELETE");
    assert_eq!(deleted["old_record"], json!({"id": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_raises_hurts_only_those_it_is_for() {
    let server = server(
        "create table public.t (id int primary key);
         alter table public.t enable row level security;
         create policy p on public.t for select to authenticated
           using (case when auth.jwt() ->> 'sub' = 'bad' then 1 / (id - 2) < 5 else true end);
         alter publication supabase_realtime add table public.t;",
    )
    .await;
    let bindings = json!([{"event": "*", "schema": "public", "table": "t"}]);
    let mut clients = BTreeMap::new();
    for name in ["bad", "good"] {
        let token = server.token("authenticated", &json!({"sub": name}));
        let mut client = Client::connect(&server, Version::V1, &token).await;
        client.join_changes("realtime:t", bindings.clone()).await;
        clients.insert(name, client);
    }
    server.execute("insert into t values (1), (2), (3)").await;
    let good = clients.get_mut("good").unwrap();
    for id in 1..=3 {
        assert_eq!(good.change().await["record"]["id"], id);
    }
    let bad = clients.get_mut("bad").unwrap();
    assert_eq!(bad.change().await["record"]["id"], 1);
    let failed = bad.change().await;
    assert_eq!(
        failed["errors"],
        json!(["Error 500: Internal Server Error"])
    );
    assert_eq!(failed["record"], json!({}));
    assert_eq!(bad.change().await["record"]["id"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_is_subscribed_with_its_own_rights() {
    let server = server(NOTES).await;
    let mut client = Client::anon(&server).await;
    let token = |name: &str| server.token("authenticated", &json!({"sub": name}));
    let payload = json!({"config": {"postgres_changes": notes()}, "access_token": token("ann")});
    let (join_ref, _) = client.try_join("realtime:notes", payload).await;
    client.expect("system").await;
    server
        .execute("insert into notes values (1, 'ann'), (2, 'bob')")
        .await;
    assert_eq!(client.change().await["record"]["id"], 1);
    let refresh = json!({"access_token": token("bob")});
    client
        .push(Some(&join_ref), "realtime:notes", "access_token", &refresh)
        .await;
    assert_eq!(
        client.expect("system").await.payload["message"],
        "Subscribed to PostgreSQL"
    );
    server
        .execute("insert into notes values (3, 'ann'), (4, 'bob')")
        .await;
    assert_eq!(client.change().await["record"]["id"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_change_count_from_the_next_change_on() {
    let server = server(NOTES).await;
    let mut client = Client::anon(&server).await;
    client.join_changes("realtime:notes", notes()).await;
    server
        .execute(
            "insert into notes values (1, 'x');
             create policy open on notes for select to anon using (true);
             insert into notes values (2, 'x')",
        )
        .await;
    let first = client.change().await;
    if first["record"]["id"] == 1 {
        // Visibility is judged on the state of the table when the batch is checked, which may be after the policy was made.
        assert_eq!(client.change().await["record"]["id"], 2);
    }
    server
        .execute("drop policy open on notes; insert into notes values (3, 'x'); alter table notes disable row level security; insert into notes values (4, 'x')")
        .await;
    let next = client.change().await["record"]["id"].clone();
    assert!(next == 4 || next == 3, "{next}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tokens_are_checked_together() {
    let server = server(NOTES).await;
    let mut users = Vec::new();
    for n in 0..40 {
        users.push(user(&server, &format!("u{n}")).await);
    }
    server
        .execute("insert into notes select n, 'u' || (n % 40) from generate_series(1, 400) n")
        .await;
    for (n, client) in users.iter_mut().enumerate() {
        for round in 0..10 {
            let id = client.change().await["record"]["id"].as_u64().unwrap();
            let expected = if n == 0 {
                40 * (round + 1)
            } else {
                n + 40 * round
            };
            assert_eq!(id, expected as u64);
        }
        assert_eq!(client.all().await, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn composite_and_text_keys_are_looked_up() {
    let server = server(
        "create table public.t (a text, b timestamptz, owner text, primary key (a, b));
         alter table public.t enable row level security;
         create policy own on public.t for select using (owner = auth.jwt() ->> 'sub');
         alter publication supabase_realtime add table public.t;",
    )
    .await;
    let token = server.token("authenticated", &json!({"sub": "ann"}));
    let mut client = Client::connect(&server, Version::V2, &token).await;
    client
        .join_changes(
            "realtime:t",
            json!([{"event": "*", "schema": "public", "table": "t"}]),
        )
        .await;
    server
        .execute("insert into t values ('it''s \"x\", {y}', '2026-01-02 03:04:05.678901+05', 'ann'), ('b', now(), 'bob'), ('c', now(), 'ann')")
        .await;
    assert_eq!(client.change().await["record"]["a"], "it's \"x\", {y}");
    assert_eq!(client.change().await["record"]["a"], "c");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_rights_on_the_schema_sees_nothing() {
    let server = server(
        "create schema hidden; create table hidden.t (id int primary key);
         alter table hidden.t enable row level security; create policy all_rows on hidden.t using (true);
         grant select on hidden.t to anon;
         alter publication supabase_realtime add table hidden.t;",
    )
    .await;
    let mut anon = Client::anon(&server).await;
    anon.join_changes(
        "realtime:t",
        json!([{"event": "*", "schema": "hidden", "table": "t"}]),
    )
    .await;
    server.execute("insert into hidden.t values (1)").await;
    let refused = anon.change().await;
    assert_eq!(refused["errors"], json!(["Error 401: Unauthorized"]));
    assert_eq!(refused["record"], json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_looked_up_only_when_their_commit_is_seen_by_all() {
    let server = server(NOTES).await;
    server
        .execute("create policy everybody on public.notes for select to anon using (id >= 0)")
        .await;
    let mut anon = Client::anon(&server).await;
    anon.join_changes("realtime:notes", notes()).await;
    // Each commit is decoded a moment before other sessions see it; one in many would be looked up too early.
    for n in 0..1_500 {
        server
            .sql
            .execute("insert into notes values ($1)", &[&n])
            .await
            .unwrap();
    }
    for n in 0..1_500 {
        assert_eq!(anon.change().await["record"]["id"], n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_made_and_filled_in_one_transaction_is_read() {
    let server = Server::start().await;
    let mut client = Client::anon(&server).await;
    client
        .join_changes(
            "realtime:all",
            json!([{"event": "INSERT", "schema": "public"}]),
        )
        .await;
    for n in 0..20 {
        server
            .execute(&format!(
                "begin; create table public.t{n} (id int primary key);
                 alter publication supabase_realtime add table public.t{n};
                 insert into public.t{n} values ({n}); commit"
            ))
            .await;
    }
    for n in 0..20 {
        assert_eq!(client.change().await["record"]["id"], n);
    }
}
