//! The support ticket example, as it is shipped, against a fake of the REST server and of the local API.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rowcall_core::{AgentKind, App, Command, EventKind, Payload, Runtime};
use rowcall_supervisor::AppHome;
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path, path_regex},
};

use crate::support::{Place, Run, command};

/// How many of the labels the example must get right.
const GOOD_ENOUGH: f64 = 0.9;

pub(crate) fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/support-tickets")
        .join(file)
}

pub(crate) fn lines(file: &str) -> Vec<Value> {
    std::fs::read_to_string(example(file))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A script of the example; the language is known by its ending.
pub(crate) fn script(file: &str) -> Command {
    let runtime = if Path::new(file)
        .extension()
        .is_some_and(|ending| ending == "py")
    {
        Runtime::Python
    } else {
        Runtime::Node
    };
    let mut command = command(runtime, None, &[example(file).to_str().unwrap()]);
    // The example's directory is part of the repository.
    command
        .env
        .insert("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned());
    command
}

/// A place whose agents find a REST server and a local API at `server`.
pub(crate) fn place(server: &MockServer) -> Place {
    let uri = server.uri();
    Place::with(|options| {
        let directory = options.spool_dir.with_file_name("home");
        options.homes = Arc::new(move |_| AppHome {
            directory: directory.clone(),
            variables: BTreeMap::from([
                ("SUPABASE_URL".to_owned(), uri.clone()),
                ("SUPABASE_KEY".to_owned(), "the-key".to_owned()),
                ("SERVER_URL".to_owned(), uri.clone()),
            ]),
        });
    })
}

pub(crate) async fn accept_updates(server: &MockServer) {
    Mock::given(method("PATCH"))
        .and(path("/rest/v1/support_tickets"))
        .respond_with(ResponseTemplate::new(204))
        .mount(server)
        .await;
}

pub(crate) async fn accept_reports(server: &MockServer) {
    Mock::given(method("POST"))
        .and(path_regex("^/api/external-tasks/[^/]+/webhook$"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "success": true })))
        .mount(server)
        .await;
}

/// A ticket as the row that the trigger captured.
pub(crate) fn with_ticket<'a>(mut run: Run<'a>, id: &str, ticket: &Value) -> Run<'a> {
    let mut row = ticket.clone();
    row["id"] = id.into();
    run.task.raw_data = Payload::from_value(&row).unwrap();
    run
}

pub(crate) async fn requests(server: &MockServer, wanted: &str) -> Vec<Request> {
    let mut requests = server.received_requests().await.unwrap();
    requests.retain(|request| request.method.as_str() == wanted);
    requests
}

pub(crate) fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// What a worker says of every ticket, in order.
async fn categorize(file: &str, server: &MockServer, tickets: &[Value]) -> Vec<Value> {
    let place = place(server);
    let mut answers = Vec::new();
    for (number, ticket) in tickets.iter().enumerate() {
        let kind = AgentKind::Worker {
            command: script(file),
            concurrency: 2,
        };
        let run = with_ticket(place.agent(kind), &number.to_string(), ticket);
        answers.push(serde_json::from_str(&run.go().await.unwrap()).unwrap());
    }
    place.close().await;
    answers
}

/// Texts that languages like to treat differently.
fn oddities() -> Vec<Value> {
    [
        "",
        " ",
        "\u{feff}\u{85}\u{1c}x",
        "İSTANBUL ERROR",
        "ΣΟΦΟΣ",
        "x².½ Ⅷ",
        "e\u{301}rror",
        "ﬁlter",
        "👩‍👩‍👧 crash",
        "a\u{2028}b. c",
        "請求書。ありがとう",
        "don't_know",
        "𝒜𐐀",
        "\u{0}",
        "!!!",
    ]
    .iter()
    .map(|text| json!({ "subject": text, "message": text.repeat(40) }))
    .chain([json!({ "subject": 5, "message": null }), json!({})])
    .collect()
}

#[tokio::test]
async fn both_languages_categorise_alike_and_sensibly() {
    let server = MockServer::start().await;
    accept_updates(&server).await;
    let (tickets, expected) = (lines("tickets.jsonl"), lines("expected.jsonl"));
    assert_eq!(tickets.len(), expected.len());
    let mut all = tickets.clone();
    all.extend(oddities());
    let python = categorize("worker.py", &server, &all).await;
    let node = categorize("worker.mjs", &server, &all).await;
    for ((ticket, python), node) in all.iter().zip(&python).zip(&node) {
        assert_eq!(python, node, "the languages differ about {ticket}");
        assert!(python["summary"].as_str().unwrap().chars().count() <= 140);
    }
    let mut right = 0.0;
    for ((ticket, expected), answer) in tickets.iter().zip(&expected).zip(&python) {
        assert_eq!(
            ticket["subject"], expected["subject"],
            "the files are out of step"
        );
        for label in ["category", "priority"] {
            if answer[label] == expected[label] {
                right += 1.0;
            } else {
                println!(
                    "{}: {label} {} instead of {}",
                    ticket["subject"], answer[label], expected[label]
                );
            }
        }
    }
    let labels = 2.0 * f64::from(u32::try_from(tickets.len()).unwrap());
    assert!(
        right / labels >= GOOD_ENOUGH,
        "only {right} of {labels} labels"
    );
    let updates = requests(&server, "PATCH").await;
    assert_eq!(updates.len(), 2 * all.len());
    for (update, answer) in updates.iter().zip(&python) {
        assert_eq!(body(update)["category"], answer["category"]);
        assert_eq!(body(update)["priority"], answer["priority"]);
    }
}

#[tokio::test]
async fn agents_update_the_ticket_and_report() {
    for file in ["agent.py", "agent.mjs"] {
        let server = MockServer::start().await;
        accept_updates(&server).await;
        accept_reports(&server).await;
        let place = place(&server);
        let ticket =
            json!({ "subject": "Charged twice", "message": "Please refund \"one\" 'now'. Thanks" });
        let id = "7d9c & odd/id";
        let run = with_ticket(place.run(script(file)), id, &ticket);
        let expected = json!({
            "category": "billing",
            "priority": "high",
            "summary": "Charged twice – Please refund \"one\" 'now'.",
        });
        let result: Value = serde_json::from_str(&run.go().await.unwrap()).unwrap();
        assert_eq!(result, expected, "{file}");

        let updates = requests(&server, "PATCH").await;
        assert_eq!(updates.len(), 1, "{file}");
        let query: Vec<_> = updates[0].url.query_pairs().collect();
        assert_eq!(query, [("id".into(), format!("eq.{id}").into())], "{file}");
        assert_eq!(
            body(&updates[0]),
            json!({ "category": "billing", "priority": "high", "status": "categorized" })
        );
        for (name, value) in [
            ("apikey", "the-key"),
            ("authorization", "Bearer the-key"),
            ("prefer", "return=minimal"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(updates[0].headers[name], value, "{file}");
        }

        let reports = requests(&server, "POST").await;
        assert_eq!(reports.len(), 1, "{file}: {:?}", run.log.all());
        assert_eq!(
            reports[0].url.path(),
            "/api/external-tasks/7f0b9c1e-0b53-4a8a-9d0e-0f4d0a3a2b11/webhook"
        );
        assert_eq!(
            body(&reports[0]),
            json!({
                "action": "completed",
                "table_name": "support_tickets",
                "machine_id": "machine-1",
                "data": { "result": expected, "ticket_id": id },
            }),
            "{file}"
        );
        place.close().await;
    }
}

#[tokio::test]
async fn a_large_ticket_comes_by_file() {
    for file in ["agent.py", "agent.mjs"] {
        let server = MockServer::start().await;
        accept_updates(&server).await;
        accept_reports(&server).await;
        let place = place(&server);
        let message = format!("{} refund", "långt ".repeat(100_000));
        let ticket = json!({ "subject": "A long story", "message": message });
        let run = with_ticket(place.run(script(file)), "1", &ticket);
        assert!(run.go().await.unwrap().contains("billing"), "{file}");
        place.close().await;
    }
}

#[test]
fn the_manifest_is_valid_and_complete() {
    let text = std::fs::read_to_string(example("app.json")).unwrap();
    let app = App::parse(&text, None).unwrap();
    assert!(app.notices.is_empty(), "{:?}", app.notices);
    let routes = app.routes();
    assert_eq!(routes.len(), 1);
    assert!(routes[0].selector.events.contains(EventKind::Insert));
    assert!(app.agent(&routes[0].agent).is_some());
    assert_eq!(app.agents.len(), 4);
    for agent in &app.agents {
        let (AgentKind::Process(command) | AgentKind::Worker { command, .. }) = &agent.kind else {
            unreachable!("the example's agents are programs");
        };
        assert!(example(&command.args[0]).is_file(), "{}", agent.id);
    }
}
