use proptest::prelude::*;

use super::*;
use crate::event::EventKind;

const SEED_APP: &str = r#"{
"name": "my-python-agent",
"display_name": "Python Data Processor",
"app_type": "python",
"config": {
"command": "python",
"args": ["app.py"],
"working_dir": "/path/to/project",
"env": { "PYTHONPATH": "/path/to/libs", "DEBUG": "true" }
}
}"#;

const SEED_TICKETS: &str = r#"{
"config": {
"supabase": {
"enabled": true,
"mode": "compatible",
"tables": ["public.support_tickets"],
"tableActions": { "public.support_tickets": ["INSERT"] },
"max_concurrent_tasks": 2
},
"agentHandlers": [
{ "tableName": "support_tickets", "agentId": "support-ticket-categorizer", "eventTypes": ["INSERT"] }
]
}
}"#;

const SEED_ACTIONS: &str = r#"{
"config": {
"supabase": {
"tables": ["public.rtx_activities", "public.orders"],
"tableActions": {
"public.rtx_activities": ["INSERT", "UPDATE"],
"public.orders": ["INSERT"],
"public.contacts": ["INSERT"]
}
}
}
}"#;

#[test]
fn reads_the_published_app_example() {
    let app = App::parse(SEED_APP, None).unwrap();
    let command = app.command.as_ref().unwrap();
    assert_eq!(app.name.as_str(), "my-python-agent");
    assert_eq!(command.runtime, Runtime::Python);
    assert_eq!(command.args, ["app.py"]);
    assert_eq!(command.env["DEBUG"], "true");
    let own = AgentId::new("my-python-agent").unwrap();
    assert!(matches!(
        app.agent(&own).unwrap().kind,
        AgentKind::Process(_)
    ));
}

#[test]
fn reads_the_published_ticket_example() {
    let app = App::parse(SEED_TICKETS, Some("support")).unwrap();
    assert_eq!(app.max_concurrent_tasks(), 2);
    let routes = app.routes();
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].agent.as_str(), "support-ticket-categorizer");
    assert!(routes[0].selector.events.contains(EventKind::Insert));
    assert!(!routes[0].selector.events.contains(EventKind::Update));
    assert!(
        app.agent(&routes[0].agent).is_none(),
        "the manifest defines no such agent"
    );
}

#[test]
fn table_actions_of_an_unlisted_table_are_noticed_not_refused() {
    let app = App::parse(SEED_ACTIONS, Some("multi")).unwrap();
    assert_eq!(app.notices.len(), 1);
    assert!(
        app.notices[0].contains("public.contacts"),
        "{:?}",
        app.notices
    );
}

#[test]
fn handlers_alone_are_enough() {
    let text = r#"{"agentHandlers": [
        {"tableName": "support_tickets", "agentId": "a", "eventTypes": ["INSERT"], "description": "Categorize"},
        {"tableName": "documents", "agentId": "b", "eventTypes": ["INSERT", "UPDATE"]}]}"#;
    let app = App::parse(text, Some("x")).unwrap();
    assert_eq!(app.routes().len(), 2);
    assert_eq!(app.max_concurrent_tasks(), 1);
}

#[test]
fn events_are_narrowed_by_table_actions() {
    let text = r#"{"name": "x", "config": {"supabase": {"tables": ["t"], "tableActions": {"t": ["UPDATE"]}},
        "agentHandlers": [{"tableName": "t", "agentId": "a", "eventTypes": ["INSERT"]}]}}"#;
    assert!(App::parse(text, None).unwrap().routes().is_empty());
}

#[test]
fn agents_beside_the_app() {
    let text = r#"{"name": "x", "app_type": "node", "agents": [
        {"id": "warm", "kind": "worker", "args": ["w.mjs"], "concurrency": 4, "timeoutSeconds": 5},
        {"id": "cold", "app_type": "python", "command": "python3", "args": ["c.py"]}]}"#;
    let app = App::parse(text, None).unwrap();
    assert!(matches!(
        app.agents[0].kind,
        AgentKind::Worker { concurrency: 4, .. }
    ));
    assert_eq!(app.agents[0].timeout.as_secs(), 5);
    assert!(matches!(&app.agents[1].kind, AgentKind::Process(c) if c.runtime == Runtime::Python));
}

#[test]
fn errors_name_the_place_and_the_way_out() {
    let problem = |text: &str| App::parse(text, Some("x")).unwrap_err().to_string();
    for (text, expected) in [
        (
            r#"{"config": {"supabase": {"max_concurrent_task": 3}}}"#,
            "did you mean \"max_concurrent_tasks\"?",
        ),
        (
            r#"{"config": {"supabase": {"maxConcurrentTasks": "3"}}}"#,
            "expected a whole number from 1 to",
        ),
        (
            r#"{"config": {"supabase": {"max_concurrent_tasks": 0}}}"#,
            "expected a whole number from 1 to",
        ),
        (
            r#"{"config": {"supabase": {"tables": "t"}}}"#,
            "config.supabase.tables: expected a list",
        ),
        (
            r#"{"config": {"supabase": {"tableActions": {"t": ["UPSERT"]}}}}"#,
            "use INSERT, UPDATE or DELETE",
        ),
        (
            r#"{"config": {"supabase": {"mode": "fancy"}}}"#,
            "use \"compatible\" or \"custom\"",
        ),
        (
            r#"{"config": {"agentHandlers": [{"tableName": "t"}]}}"#,
            "config.agentHandlers[0].agentId: missing",
        ),
        (
            r#"{"app_type": "ruby"}"#,
            "use python, node, npx, uvx or custom",
        ),
        (r#"{"agents": [{"id": "a"}]}"#, "agents[0].command: missing"),
        (
            r#"{"config": {"working_dir": "a", "workingDir": "b"}}"#,
            "given twice",
        ),
        ("[]", "expected an object"),
        ("{", "not valid JSON"),
    ] {
        let found = problem(text);
        assert!(
            found.contains(expected),
            "{text}\n  said: {found}\n  not:  {expected}"
        );
    }
    assert!(
        App::parse("{}", None)
            .unwrap_err()
            .to_string()
            .contains("--name")
    );
}

#[test]
fn agents_started_by_name_have_routes_of_their_own() {
    let text = r#"{"name": "x", "agents": [{"id": "a", "command": "a"}], "config": {"supabase": {
        "tables": ["t"], "filter": "n=gt.1", "enabled": false},
        "agentHandlers": [{"tableName": "t", "agentId": "a"}]}}"#;
    let mut app = App::parse(text, None).unwrap();
    assert!(app.routes().is_empty(), "the subscription is off");
    app.named_agents = vec![AgentId::new("a").unwrap()];
    let routes = app.routes();
    assert_eq!(
        routes[0].selector.table.to_string(),
        format!("{NAMED_SCHEMA}.x/a")
    );
    assert!(routes[0].selector.filter.is_none() && routes[0].trigger == Trigger::Auto);
    let long = AgentId::new("a".repeat(64)).unwrap();
    assert!(app.named_table(&long).is_none());
}

#[test]
fn programs_say_when_they_are_started_again() {
    let read = |text: &str| {
        App::parse(
            &format!(r#"{{"name": "x", "config": {{"command": "a"{text}}}}}"#),
            None,
        )
    };
    assert_eq!(read("").unwrap().restart, Restart::OnFailure);
    let app = read(r#", "restart": "never", "autostart": true, "healthPath": "/health""#).unwrap();
    assert_eq!((app.restart, app.autostart), (Restart::Never, true));
    assert_eq!(app.health_path.as_deref(), Some("/health"));
    assert!(
        read(r#", "restart": "often""#)
            .unwrap_err()
            .to_string()
            .contains("on-failure")
    );
}

proptest! {
    #[test]
    fn hostile_text_is_an_error_not_a_panic(text in ".{0,200}") {
        let _ = App::parse(&text, Some("x"));
    }

    #[test]
    fn hostile_json_is_an_error_not_a_panic(key in "[a-zA-Z_]{1,20}", number in any::<i64>()) {
        let text = format!(r#"{{"config": {{"supabase": {{"{key}": {number}}}}}}}"#);
        let _ = App::parse(&text, Some("x"));
    }
}
