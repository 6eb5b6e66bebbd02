//! B14, A15, E9: what the pages and the example say, carried out.

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Place, example, realtime::project, stderr};
use crate::support::until;

/// The page, with the commands people copy from it.
const PAGE: &str = include_str!("../../../../../docs/queues.md");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b14_the_commands_of_the_page_work() {
    let place = Place::new().await;
    // The page's paths begin at the repository's root.
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let examples = root.canonicalize().unwrap().join("examples");
    std::os::unix::fs::symlink(examples, place.path("examples")).unwrap();
    rowcall_stack::bootstrap::apply(&place.client)
        .await
        .expect("the roles of a project");
    let blocks: Vec<&str> = PAGE
        .split("```sh\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .collect();
    let (mut workers, mut stack, mut commands) = (Vec::new(), None, 0);
    for block in blocks {
        // These are about a project: this database, behind the stack.
        let over_http = block.contains("export SUPABASE_URL");
        if over_http && stack.is_none() {
            stack = Some(project(&place).await);
        }
        let (url, key) = stack.as_ref().map_or(("", ""), |(stack, keys)| {
            (stack.url(), keys.service_role_key())
        });
        let env = [
            ("DATABASE_URL", ""),
            ("SUPABASE_URL", url),
            ("SUPABASE_KEY", key),
        ];
        let env = if over_http { &env[..] } else { &[] };
        for command in block.lines().filter(|line| line.starts_with("rowcall ")) {
            commands += 1;
            let args = words(command);
            let args: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
            match args[..] {
                ["worker", ..] => workers.push(place.worker_with(&args, env).await),
                ["queue", "chat", question, ..] => chat(&place, &args, question).await,
                _ => {
                    let output = place.run_with(&args, env).await;
                    assert!(output.status.success(), "{command}: {}", stderr(&output));
                }
            }
        }
    }
    assert!(commands >= 15, "{commands}");
    let worker = workers.first().expect("the page starts a worker");
    // Sent by the page: to the database, over HTTP, by the chat.
    place.rows("pgmq.\"a_incoming-messages\"", 3, worker).await;
    for worker in workers {
        worker.stop().await;
    }
    if let Some((stack, _)) = stack {
        stack.shutdown().await;
    }
}

/// The page's chat, with an answer.
async fn chat(place: &Place, args: &[&str], question: &str) {
    let chat = place.run(args);
    let answer = async {
        let sql = format!(
            "select (select message -> 'message_id' from (select message from pgmq.\"q_incoming-messages\" union all \
             select message from pgmq.\"a_incoming-messages\") m where message ->> 'body' = '{question}')"
        );
        let id = until("the question is there", async || {
            let id = place.value(&format!("coalesce(({sql}), 'null')")).await;
            if id.is_null() { Err(id) } else { Ok(id) }
        })
        .await;
        let answer = json!({ "reply_to": id, "body": "nothing" }).to_string();
        place
            .done(&["queue", "send", "outgoing-messages", &answer])
            .await;
    };
    let (output, ()) = tokio::join!(chat, answer);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "nothing\n");
}

/// A command line's words: what the page uses is blanks and single quotes.
fn words(line: &str) -> Vec<String> {
    line.split('\'')
        .enumerate()
        .flat_map(|(index, part)| {
            if index % 2 == 1 {
                vec![part.to_owned()]
            } else {
                part.split_whitespace().map(str::to_owned).collect()
            }
        })
        .collect()
}

#[tokio::test]
async fn a15_mentions_route_as_aimq_routes_them() {
    let script = example("queue-worker/worker.py");
    let cases = json!([
        ["hello", "default-assistant", []],
        ["@billing-bot help", "billing-bot", ["billing-bot"]],
        [
            "ask @react-assistant please",
            "react-assistant",
            ["react-assistant"]
        ],
        ["@ada and @sales_bot", "sales_bot", ["ada", "sales_bot"]],
        [
            "@first_assistant @second-bot",
            "first_assistant",
            ["first_assistant", "second-bot"]
        ],
        ["mail ada@example-bot.com", "default-assistant", []],
        ["(@in-bot)", "in-bot", ["in-bot"]],
        ["@", "default-assistant", []],
        ["@bot", "default-assistant", ["bot"]],
        ["@a-bot,@b-bot", "a-bot", ["a-bot", "b-bot"]],
        ["_@under-bot", "under-bot", ["under-bot"]],
        ["@botanist", "default-assistant", ["botanist"]],
        ["", "default-assistant", []]
    ]);
    let code = "import importlib.util, json, sys\n\
        spec = importlib.util.spec_from_file_location('worker', sys.argv[1])\n\
        worker = importlib.util.module_from_spec(spec); spec.loader.exec_module(worker)\n\
        for body, queue, mentions in json.loads(sys.argv[2]):\n\
        \x20   task = {'raw_data': {'body': body}, 'key': {'queue': 'q', 'msg_id': 7}, 'attempt': 1}\n\
        \x20   got = worker.handle(task, lambda text: None)\n\
        \x20   assert got == {'queue': queue, 'thread_id': 'job-7'}, (body, got)\n\
        \x20   assert worker.MENTION.findall(body) == mentions, (body, worker.MENTION.findall(body))\n";
    let output = Command::new("python3")
        .args(["-c", code, &script, &cases.to_string()])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[tokio::test]
async fn e9_doctor_names_what_keeps_queues_from_waking() {
    let place = Place::new().await;
    place.done(&["queue", "create", "fine"]).await;
    place
        .client
        .batch_execute("select pgmq.create('silent')")
        .await
        .unwrap();
    let looked = crate::support::command(place.dir.path())
        .args(["doctor", "--json"])
        .env("ROWCALL_DATABASE_URL", place.db.url())
        .output()
        .await
        .unwrap();
    let findings: Value = serde_json::from_slice(&looked.stdout).unwrap();
    let about = |part: &str| {
        let all = findings.as_array().unwrap().iter();
        all.filter(|one| one["check"].as_str().unwrap().starts_with("queues"))
            .filter(|one| one["found"].as_str().unwrap().contains(part))
            .count()
    };
    assert!(about("silent") > 0, "{findings:#}");
    assert!(about("installed as SQL") > 0, "{findings:#}");
}
