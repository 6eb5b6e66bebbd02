//! The binary with nothing but a project's URL and key: workers, commands, chat. And the files of a new worker.

use std::process::{Output, Stdio};

use rowcall_stack::{auth::Keys, bootstrap, stack::Stack};
use serde_json::{Value, json};

use super::{Place, realtime::project, stderr};
use crate::support::{PATIENCE, command, until};

/// Leaves the functions that Supabase Studio makes.
const STOCK: &str = "do $$ declare one regprocedure; begin
  for one in select oid::regprocedure from pg_proc where pronamespace = 'pgmq_public'::regnamespace
    and proname not in ('send', 'send_batch', 'read', 'pop', 'archive', 'delete')
  loop execute format('drop function %s cascade', one); end loop; end $$";

/// A project with queues, of which the binary knows only URL and key.
struct Hosted {
    place: Place,
    stack: Stack,
    keys: Keys,
}

impl Hosted {
    async fn new(queues: &[&str], sql: &str) -> Self {
        let place = Place::new().await;
        bootstrap::apply(&place.client).await.expect("the roles");
        for queue in queues {
            place.done(&["queue", "create", queue]).await;
        }
        place
            .client
            .batch_execute(sql)
            .await
            .expect("the functions");
        let (stack, keys) = project(&place).await;
        Self { place, stack, keys }
    }

    fn env(&self) -> [(&str, &str); 4] {
        [
            ("DATABASE_URL", ""),
            ("SUPABASE_URL", self.stack.url()),
            ("SUPABASE_KEY", self.keys.service_role_key()),
            // A poll would come too late.
            ("WORKER_IDLE_WAIT", "600.0"),
        ]
    }

    async fn run(&self, args: &[&str]) -> Output {
        self.place.run_with(args, &self.env()).await
    }

    async fn done(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_b1_b3_a_worker_needs_only_url_and_key() {
    for (sql, stock) in [("", false), (STOCK, true)] {
        let hosted = Hosted::new(&["jobs", "dead"], sql).await;
        let script = "case \"$ACTIVITY_DATA\" in *poison*) exit 1;; esac";
        let env = hosted.env();
        let worker = hosted
            .place
            .worker_with(
                &[
                    "worker",
                    "--queue",
                    "jobs",
                    "--dlq",
                    "dead",
                    "--max-retries",
                    "1",
                    "--kind",
                    "process",
                    "--",
                    "sh",
                    "-c",
                    script,
                    "handler",
                ],
                &env,
            )
            .await;
        let id = hosted.done(&["queue", "send", "jobs", r#"{"a": 1}"#]).await;
        assert_eq!(id, "1\n");
        hosted.place.rows("pgmq.a_jobs", 1, &worker).await;
        hosted
            .done(&["queue", "send", "jobs", r#"{"a": "poison"}"#])
            .await;
        hosted.place.rows("pgmq.q_dead", 1, &worker).await;
        hosted.place.rows("pgmq.a_jobs", 2, &worker).await;
        let log = worker.log();
        assert_eq!(log.contains("lacks rowcall's functions"), stock, "{log}");
        assert!(!log.contains(hosted.keys.service_role_key()));
        worker.stop().await;
        hosted.stack.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_a12_commands_work_over_the_data_api() {
    let hosted = Hosted::new(&["first"], "").await;
    hosted.done(&["queue", "create", "In-Box"]).await;
    hosted
        .done(&["queue", "send", "In-Box", "[1]", "--delay", "60"])
        .await;
    hosted
        .done(&["queue", "realtime", "disable", "first"])
        .await;
    let listed: Value =
        serde_json::from_str(&hosted.done(&["queue", "list", "--json"]).await).unwrap();
    let brief = |at: usize| {
        (
            listed[at]["queue_name"].clone(),
            listed[at]["queue_length"].clone(),
            listed[at]["realtime_enabled"].clone(),
        )
    };
    assert_eq!(
        brief(0),
        (json!("In-Box"), json!(1), json!(true)),
        "{listed}"
    );
    assert_eq!(brief(1), (json!("first"), json!(0), json!(false)));
    let seen: Value =
        serde_json::from_str(&hosted.done(&["queue", "read", "In-Box", "--json"]).await).unwrap();
    assert_eq!(
        (&seen[0]["message"], &seen[0]["read_ct"]),
        (&json!([1]), &json!(0))
    );
    hosted
        .done(&["queue", "realtime", "enable", "--all", "--channel", "mine"])
        .await;
    let table = hosted.done(&["queue", "realtime", "status"]).await;
    assert_eq!(table.matches(" on").count(), 2, "{table}");
    for (args, code, part) in [
        (vec!["queue", "purge", "first"], 2, "DATABASE_URL"),
        (
            vec!["queue", "create", "x", "--unlogged"],
            2,
            "DATABASE_URL",
        ),
        (vec!["queue", "create", "x", "--private"], 2, "DATABASE_URL"),
        (vec!["queue", "send", "nope", "{}"], 3, "42P01"),
    ] {
        let refused = hosted.run(&args).await;
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
    hosted.stack.shutdown().await;
}

/// Answers a chat's question as a worker would, and gives what the chat printed.
async fn answered(place: &Place, env: &[(&str, &str)], question: &str) -> String {
    let child = command(place.dir.path())
        .args([
            "queue",
            "chat",
            question,
            "--agent",
            "a1",
            "--timeout",
            "30s",
        ])
        .env("DATABASE_URL", place.db.url())
        .envs(env.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let sql = "select coalesce((select message from pgmq.\"q_incoming-messages\" limit 1), 'null')";
    let asked = until("the question is there", async || {
        let asked = place.value(sql).await;
        if asked.is_null() { Err(()) } else { Ok(asked) }
    })
    .await;
    assert_eq!(
        (&asked["body"], &asked["agent"]),
        (&json!(question), &json!("a1"))
    );
    assert!(asked["thread_id"].is_string());
    let answer = json!({ "reply_to": asked["message_id"], "body": "forty-two" }).to_string();
    for message in [r#"{"reply_to": "somebody else's"}"#, &answer] {
        place
            .done(&["queue", "send", "outgoing-messages", message])
            .await;
    }
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let output = output.await.expect("it ends").expect("its output");
    assert!(output.status.success(), "{}", stderr(&output));
    place.done(&["queue", "purge", "incoming-messages"]).await;
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a12_chat_prints_the_answer_and_leaves_the_others_alone() {
    let hosted = Hosted::new(&["incoming-messages", "outgoing-messages"], "").await;
    let env = hosted.env();
    assert_eq!(
        answered(&hosted.place, &[], "what is it?").await,
        "forty-two\n"
    );
    assert_eq!(
        answered(&hosted.place, &env, "over http?").await,
        "forty-two\n"
    );
    let others = "select jsonb_agg(read_ct) from pgmq.\"q_outgoing-messages\"";
    assert_eq!(
        hosted.place.value(others).await,
        json!([0, 0]),
        "unread, both"
    );
    let args = [
        "queue",
        "chat",
        "anyone?",
        "--timeout",
        "300ms",
        "--no-realtime",
    ];
    let silent = hosted.run(&args).await;
    assert_eq!(silent.status.code(), Some(1), "{}", stderr(&silent));
    assert!(
        stderr(&silent).contains("no answer came"),
        "{}",
        stderr(&silent)
    );
    hosted.stack.shutdown().await;
}

#[tokio::test]
async fn a12_init_and_schema_make_files_and_overwrite_none() {
    let place = Place::new().await;
    place.done(&["queue", "init", "small", "--minimal"]).await;
    let names = |dir: &str| {
        let all = std::fs::read_dir(place.path(dir)).unwrap();
        let mut all: Vec<String> = all
            .map(|one| one.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    };
    assert_eq!(names("small"), ["rowcall.toml", "worker.py"]);
    std::fs::write(place.path("small/worker.py"), "mine").unwrap();
    for _ in 0..2 {
        place.done(&["queue", "init", "small", "--all"]).await;
    }
    assert_eq!(place.read("small/worker.py"), "mine");
    assert_eq!(
        names("small"),
        [".env.example", "rowcall.toml", "supabase", "worker.py"]
    );
    // The server of this test does not offer the extension.
    place.done(&["queue", "create", "other"]).await;
    let migrations = names("small/supabase/migrations");
    assert_eq!(migrations.len(), 2, "{migrations:?}");
    for file in &migrations {
        let sql = place.read(&format!("small/supabase/migrations/{file}"));
        place
            .client
            .batch_execute(&sql)
            .await
            .unwrap_or_else(|error| panic!("{file}: {error:?}"));
    }
    assert!(
        place
            .read("small/supabase/config.toml")
            .contains("\"pgmq_public\"")
    );
    // What was made runs.
    place.done(&["queue", "init", "whole"]).await;
    std::fs::copy(place.path("whole/worker.py"), place.path("worker.py")).unwrap();
    let config = place.path("whole/rowcall.toml").display().to_string();
    let worker = place.worker(&["worker", "--config", &config]).await;
    place
        .done(&["queue", "send", "incoming-messages", r#"{"body": "hello"}"#])
        .await;
    place.rows("pgmq.\"a_incoming-messages\"", 1, &worker).await;
    worker.stop().await;

    let refused = place.run(&["queue", "schema", "enable"]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    let file = place.path("config.toml").display().to_string();
    std::fs::write(&file, "[api]\nschemas = [\"public\"] # mine\n").unwrap();
    for said in ["is exposed", "was exposed"] {
        let done = place
            .run(&["queue", "schema", "enable", "--file", &file])
            .await;
        assert!(
            done.status.success() && stderr(&done).contains(said),
            "{}",
            stderr(&done)
        );
    }
    assert_eq!(
        place.read("config.toml"),
        "[api]\nschemas = [\"public\", \"pgmq_public\"] # mine\n"
    );
    place
        .done(&["queue", "schema", "disable", "--file", &file])
        .await;
    assert_eq!(
        place.read("config.toml"),
        "[api]\nschemas = [\"public\"] # mine\n"
    );
}
