//! The example when something is wrong around it.

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio, sync::Arc};

use rowcall_core::{AgentErrorKind, Payload};
use rowcall_supervisor::AppHome;
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use crate::{
    example::{
        accept_reports, accept_updates, body, example, place, requests, script, with_ticket,
    },
    support::{PATIENCE, Place},
};

fn ticket() -> Value {
    json!({ "subject": "Refund", "message": "Please." })
}

#[tokio::test]
async fn a_refused_update_fails_the_task_with_the_reason() {
    for file in ["agent.py", "agent.mjs"] {
        let server = MockServer::start().await;
        Mock::given(method("PATCH"))
            .respond_with(
                ResponseTemplate::new(401).set_body_string("{\"message\":\"JWT expired\"}"),
            )
            .mount(&server)
            .await;
        accept_reports(&server).await;
        let place = place(&server);
        let run = with_ticket(place.run(script(file)), "1", &ticket());
        let error = run.go().await.unwrap_err();
        assert_eq!(error.kind, AgentErrorKind::Failed);
        assert!(
            error.message.contains("Failed to update ticket: 401")
                && error.message.contains("JWT expired"),
            "{file}: {}",
            error.message
        );
        let reports = requests(&server, "POST").await;
        assert_eq!(reports.len(), 1);
        let report = body(&reports[0]);
        assert_eq!(report["action"], "failed");
        assert_eq!(report["table_name"], "support_tickets");
        let error = &report["data"]["error"];
        assert!(error["message"].as_str().unwrap().contains("JWT expired"));
        assert!(error["stack"].as_str().unwrap().contains(file), "{error}");
        place.close().await;
    }
}

#[tokio::test]
async fn without_a_webhook_the_output_tells_the_result() {
    for file in ["agent.py", "agent.mjs"] {
        let server = MockServer::start().await;
        accept_updates(&server).await;
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "success": false })))
            .mount(&server)
            .await;
        let place = place(&server);
        let run = with_ticket(place.run(script(file)), "1", &ticket());
        assert!(run.go().await.unwrap().contains("billing"), "{file}");
        assert_eq!(
            requests(&server, "POST").await.len(),
            3,
            "{file} tried again"
        );
        place.close().await;
    }
}

#[tokio::test]
async fn a_task_without_a_ticket_fails() {
    for file in ["agent.py", "agent.mjs"] {
        for data in ["null", "{}", "[1]", "\"text\""] {
            let server = MockServer::start().await;
            accept_reports(&server).await;
            let place = place(&server);
            let mut run = place.run(script(file));
            run.task.raw_data = Payload::from_text(data.to_owned()).unwrap();
            let error = run.go().await.unwrap_err();
            assert!(
                error.message.contains("holds no ticket"),
                "{file} {data}: {}",
                error.message
            );
            assert_eq!(
                body(&requests(&server, "POST").await[0])["action"],
                "failed"
            );
            place.close().await;
        }
    }
}

/// A stand-in that writes down what it was told.
const PSQL: &str = "#!/bin/sh\n\
    printf '%s\\n' \"$@\" > \"$OUT/arguments\"\n\
    printf '%s' \"$PGPASSWORD\" > \"$OUT/password\"\n\
    cat > \"$OUT/statement\"\n";

#[tokio::test]
async fn without_rest_the_ticket_is_updated_with_psql() {
    for file in ["agent.py", "agent.mjs", "worker.py"] {
        let server = MockServer::start().await;
        accept_reports(&server).await;
        let uri = server.uri();
        let place = Place::with(|options| {
            let directory = options.spool_dir.with_file_name("home");
            options.homes = Arc::new(move |_| AppHome {
                directory: directory.clone(),
                variables: [
                    (
                        "DATABASE_URL",
                        "postgresql://me:s%40cret@db.example:5433/shop?sslmode=require",
                    ),
                    ("SERVER_URL", &uri),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            });
        });
        let psql = place.file("psql", PSQL);
        fs::set_permissions(&psql, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = script(file);
        let here = place.dir.path().to_str().unwrap();
        let path = format!("{here}:{}", std::env::var("PATH").unwrap());
        command.env.insert("PATH".to_owned(), path);
        command.env.insert("OUT".to_owned(), here.to_owned());
        let kind = if file.starts_with("worker") {
            rowcall_core::AgentKind::Worker {
                command,
                concurrency: 1,
            }
        } else {
            rowcall_core::AgentKind::Process(command)
        };
        let run = with_ticket(place.agent(kind), "5'; drop table x; --", &ticket());
        run.go().await.unwrap();
        let told = |name: &str| fs::read_to_string(place.path(name)).unwrap();
        let arguments = told("arguments");
        assert!(
            arguments.contains("\npostgresql://me@db.example:5433/shop?sslmode=require\n"),
            "{arguments}"
        );
        assert!(
            arguments.contains("\nid=5'; drop table x; --\n"),
            "{arguments}"
        );
        assert!(arguments.contains("\ncategory=billing\n"), "{arguments}");
        assert!(
            !arguments.contains("cret"),
            "the password is visible to everybody"
        );
        assert_eq!(told("password"), "s@cret");
        assert!(told("statement").contains("where id = :'id'"));
        place.close().await;
    }
}

/// As RealTimeX's documentation shows for agents that read arguments.
#[tokio::test]
async fn agents_read_arguments_where_there_are_no_variables() {
    let server = MockServer::start().await;
    accept_reports(&server).await;
    for (program, file) in [("python3", "agent.py"), ("node", "agent.mjs")] {
        let mut row = ticket();
        row["id"] = "9".into();
        let run = tokio::process::Command::new(program)
            .arg(example(file))
            .args(["task-1", &json!({ "raw_data": row }).to_string()])
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", std::env::var("HOME").unwrap_or_default())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SERVER_URL", server.uri())
            .stdin(Stdio::null())
            .output();
        let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{file}: {text}");
        assert!(
            text.contains("the result is only reported"),
            "{file}: {text}"
        );
    }
    let reports = requests(&server, "POST").await;
    assert_eq!(reports.len(), 2);
    for report in reports {
        assert_eq!(report.url.path(), "/api/external-tasks/task-1/webhook");
        assert_eq!(body(&report)["data"]["ticket_id"], "9");
        assert_eq!(body(&report)["machine_id"], "unknown");
    }
}
