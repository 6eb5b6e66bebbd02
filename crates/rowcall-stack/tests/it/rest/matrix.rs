//! Who may do what to which table, over every way in: one table of expectations, every cell tried.

use reqwest::Method;
use serde_json::{Value, json};

use super::world::{World, now};

const OWNER: &str = "00000000-0000-0000-0000-00000000000a";
const OTHER: &str = "00000000-0000-0000-0000-00000000000b";

/// Tables that differ in what guards them; each has one row of the owner's.
const TABLES: &str = "
    create table public.m_open (id int primary key, owner uuid, text text);
    create table public.m_owned (id int primary key, owner uuid, text text);
    create table public.m_closed (id int primary key, owner uuid, text text);
    create table public.m_revoked (id int primary key, owner uuid, text text);
    create table public.m_reads (id int primary key, owner uuid, text text);
    alter table public.m_owned enable row level security;
    alter table public.m_closed enable row level security;
    alter table public.m_reads enable row level security;
    create policy own on public.m_owned to authenticated using (owner = auth.uid()) with check (owner = auth.uid());
    create policy look on public.m_reads for select using (true);
    revoke all on public.m_revoked from anon, authenticated;
    insert into public.m_open values (1, '00000000-0000-0000-0000-00000000000a', 't');
    insert into public.m_owned select * from public.m_open;
    insert into public.m_closed select * from public.m_open;
    insert into public.m_revoked select * from public.m_open;
    insert into public.m_reads select * from public.m_open;
";

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It works on the row.
    Done,
    /// The row is not seen.
    Unseen,
    /// It is refused.
    Refused,
}
use Outcome::{Done, Refused, Unseen};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    Anon,
    Publishable,
    Owner,
    Other,
    Service,
    Secret,
    Forged,
    Expired,
}

const WHO: [Who; 9] = [
    Who::Nobody,
    Who::Anon,
    Who::Publishable,
    Who::Owner,
    Who::Other,
    Who::Service,
    Who::Secret,
    Who::Forged,
    Who::Expired,
];

/// Every way to touch a row over REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Select,
    Head,
    Function,
    Insert,
    Upsert,
    Update,
    Delete,
}

const VERBS: [Verb; 7] = [
    Verb::Select,
    Verb::Head,
    Verb::Function,
    Verb::Insert,
    Verb::Upsert,
    Verb::Update,
    Verb::Delete,
];

/// The table of expectations.
fn expected(who: Who, table: &str, verb: Verb) -> Outcome {
    let adds = matches!(verb, Verb::Insert | Verb::Upsert);
    match (who, table) {
        (Who::Forged | Who::Expired, _) => Refused,
        (Who::Service | Who::Secret, _) | (_, "m_open") | (Who::Owner, "m_owned") => Done,
        (_, "m_revoked") => Refused,
        (_, "m_reads") if matches!(verb, Verb::Select | Verb::Head | Verb::Function) => Done,
        // Others' rows cannot be seen, and nothing can be added that would not be one's own.
        (_, "m_owned" | "m_closed" | "m_reads") if adds => Refused,
        (_, "m_owned" | "m_closed" | "m_reads") => Unseen,
        _ => unreachable!("{table}"),
    }
}

struct Matrix {
    world: World,
}

impl Matrix {
    fn ask(&self, who: Who, method: Method, path: &str) -> super::world::Ask<'_> {
        let ask = self.world.ask(method, path);
        let (keys, hour) = (&self.world.keys, now().as_second() + 3600);
        let user = |subject: &str, exp: i64| {
            keys.sign(&json!({"role": "authenticated", "sub": subject, "exp": exp}))
        };
        match who {
            Who::Nobody => ask,
            Who::Anon => ask.header("apikey", keys.anon_key()).token(keys.anon_key()),
            Who::Publishable => ask
                .header("apikey", keys.publishable_key())
                .token(keys.publishable_key()),
            Who::Owner => ask
                .header("apikey", keys.anon_key())
                .token(&user(OWNER, hour)),
            Who::Other => ask
                .header("apikey", keys.publishable_key())
                .token(&user(OTHER, hour)),
            Who::Service => ask
                .header("apikey", keys.service_role_key())
                .token(keys.service_role_key()),
            Who::Secret => ask.header("apikey", keys.secret_key()),
            Who::Forged => {
                let stranger = rowcall_stack::auth::Keys::generate(now());
                ask.token(
                    &stranger.sign(&json!({"role": "service_role", "sub": OWNER, "exp": hour})),
                )
            }
            Who::Expired => ask.token(&user(OWNER, now().as_second() - 3600)),
        }
    }

    async fn attempt(&self, who: Who, table: &str, verb: Verb) -> Outcome {
        let id = WHO.iter().position(|one| *one == who).unwrap_or(0) + 100;
        let owner = if who == Who::Other { OWNER } else { OTHER };
        let owner = if who == Who::Owner { OWNER } else { owner };
        let row = json!({"id": id, "owner": owner, "text": "new"});
        let path = |query: &str| format!("/{table}?select=id&{query}");
        let written = "return=representation,tx=rollback";
        let answer = match verb {
            Verb::Select => self.ask(who, Method::GET, &path("id=eq.1")).send().await,
            Verb::Head => {
                let answer = self
                    .ask(who, Method::HEAD, &path("id=eq.1"))
                    .prefer("count=exact")
                    .send()
                    .await;
                return match (answer.status.as_u16(), answer.header("content-range")) {
                    (200, "0-0/1") => Done,
                    (200, "*/0") => Unseen,
                    (401 | 403, _) => Refused,
                    other => panic!("{who:?} {table} {verb:?}: {other:?}"),
                };
            }
            Verb::Function => {
                self.ask(who, Method::POST, "/rpc/m_look")
                    .json(&json!({"name": table}))
                    .send()
                    .await
            }
            Verb::Insert => {
                self.ask(who, Method::POST, &path(""))
                    .json(&row)
                    .prefer(written)
                    .send()
                    .await
            }
            Verb::Upsert => {
                let prefer = format!("resolution=merge-duplicates,{written}");
                self.ask(who, Method::POST, &path(""))
                    .json(&row)
                    .prefer(&prefer)
                    .send()
                    .await
            }
            Verb::Update => {
                let change = json!({"text": "changed"});
                self.ask(who, Method::PATCH, &path("id=eq.1"))
                    .json(&change)
                    .prefer(written)
                    .send()
                    .await
            }
            Verb::Delete => {
                self.ask(who, Method::DELETE, &path("id=eq.1"))
                    .prefer(written)
                    .send()
                    .await
            }
        };
        match (answer.status.as_u16(), answer.json()) {
            (200 | 201, Value::Array(rows)) if rows.len() == 1 => Done,
            (200 | 201, Value::Array(rows)) if rows.is_empty() => Unseen,
            (401 | 403, _) => Refused,
            other => panic!("{who:?} {table} {verb:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn every_role_table_and_verb_has_the_outcome_it_should() {
    let world =
        World::with(|config| config.rest.tx = rowcall_stack::rest::TxPolicy::CommitAllowOverride)
            .await;
    let client = world.db.connect().await;
    client.batch_execute(TABLES).await.expect("tables");
    client
        .batch_execute(
            "create function public.m_look(name text) returns setof int language plpgsql stable as $$
             begin return query execute format('select id from public.%I where id = 1', name); end $$",
        )
        .await
        .expect("a function");
    let matrix = Matrix { world };
    let mut wrong = Vec::new();
    for table in ["m_open", "m_owned", "m_closed", "m_revoked", "m_reads"] {
        for who in WHO {
            for verb in VERBS {
                let (outcome, expected) = (
                    matrix.attempt(who, table, verb).await,
                    expected(who, table, verb),
                );
                if outcome != expected {
                    wrong.push(format!(
                        "{who:?} {table} {verb:?}: {outcome:?}, not {expected:?}"
                    ));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Nothing of all that stayed, and nothing was changed.
    for table in ["m_open", "m_owned", "m_closed", "m_revoked", "m_reads"] {
        let rows = client
            .query(&format!("select id, text from public.{table}"), &[])
            .await
            .expect("rows");
        assert_eq!(rows.len(), 1, "{table}");
        assert_eq!(
            (rows[0].get::<_, i32>(0), rows[0].get::<_, &str>(1)),
            (1, "t"),
            "{table}"
        );
    }
}
