//! Every route × every credential, generated from what the routes themselves declare.
//!
//! What came out is `docs/http-api-matrix.md`: the documented status and body of every route for every credential. A change
//! of any of them changes that page; `INSTA_UPDATE=always` writes it anew.

use std::fmt::Write as _;

use reqwest::Method;
use rowcall::api::{Route, Rule, catalogue};
use serde_json::{Value, json};

use super::world::{As, World, demo};
use crate::support::until;

const HEAD: &str = "\
# Every route × every credential

Written by the test `api::matrix` from what the routes declare and what they answered; see [http-api.md](http-api.md) for the rules. Every
route was asked with the body `{}` and with names that do not exist in place of its parameters, so `404 NOT_FOUND` or
`400 VALIDATION_ERROR` means: let in, and then told what is wrong. `200 a, b` lists the members of the body.
";

const SDK: &str = "
## The SDK contract

| route | permission | no credential | app without it | app with it | revoked key | developer key |
|---|---|---|---|---|---|---|
";

const OPERATOR: &str = "
## The operator's routes

| route | no credential | app | revoked key | developer key | operator, administrator's key |
|---|---|---|---|---|---|
";

/// A path with something in place of its parameters that names nothing.
fn path(route: Route) -> String {
    route
        .path
        .split('/')
        .map(|segment| match segment {
            "{id}" if route.path.contains("/calendar/") => "999999",
            segment if segment.starts_with('{') => "00000000-0000-4000-8000-000000000000",
            segment => segment,
        })
        .collect::<Vec<_>>()
        .join("/")
}

type Answer = (u16, Value);

async fn ask(world: &World, route: Route, who: As<'_>) -> Answer {
    ask_with(world, route, who, "{}").await
}

async fn ask_with(world: &World, route: Route, who: As<'_>, body: &'static str) -> Answer {
    let method: Method = route.method.parse().unwrap();
    let request = world.request(method.clone(), &path(route), who);
    let request = if method == Method::GET {
        request
    } else {
        request.body(body)
    };
    // Streams never end: their head is all that is looked at.
    let answer = request.send().await.expect("the daemon answers");
    let status = answer.status().as_u16();
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    if !kind.starts_with("application/json") {
        assert_eq!(status, 200, "{route:?} as {who:?} is not JSON");
        let kind = kind.split(';').next().unwrap_or_default();
        return (status, Value::String(kind.to_owned()));
    }
    (status, answer.json().await.expect("JSON"))
}

/// An answer in few words: its status, and its code or the members of its body.
fn shown((status, body): &Answer) -> String {
    match body {
        Value::Object(members) => match members.get("code").and_then(Value::as_str) {
            Some(code) => format!("{status} {code}"),
            None => {
                let names: Vec<&str> = members.keys().map(String::as_str).collect();
                format!("{status} {}", names.join(", "))
            }
        },
        Value::String(kind) => format!("{status} {kind}"),
        other => format!("{status} {other}"),
    }
}

fn refused(status: u16, code: &str, error: &str) -> Answer {
    (
        status,
        json!({ "success": false, "error": error, "code": code }),
    )
}

fn nobody() -> Answer {
    refused(401, "MISSING_APP_ID", "Missing required header: x-app-id")
}

fn revoked() -> Answer {
    refused(401, "INVALID_API_KEY", "Invalid API key")
}

fn no_token() -> Answer {
    refused(
        401,
        "MISSING_TOKEN",
        "Send the session's token as Authorization: Bearer; it is in the file session-token of the data directory",
    )
}

fn not_admin() -> Answer {
    refused(
        403,
        "NOT_ADMIN",
        "This key may use the SDK's routes only. `rowcall key add --admin` makes one that may administer this machine",
    )
}

fn required(permission: &str) -> Answer {
    let (status, mut body) = refused(403, "PERMISSION_REQUIRED", "PERMISSION_REQUIRED");
    body["permission"] = permission.into();
    body["message"] = format!("Permission '{permission}' is required").into();
    (status, body)
}

/// What was wrong, collected so that one run shows all of it.
#[derive(Default)]
struct Wrong(String);

impl Wrong {
    fn check(&mut self, route: Route, who: &str, answer: &Answer, fine: bool) {
        if !fine {
            let _ = writeln!(
                self.0,
                "{} {} as {who}: {answer:?}",
                route.method, route.path
            );
        }
    }

    fn is(&mut self, route: Route, who: &str, answer: &Answer, expected: &Answer) {
        self.check(route, who, answer, answer == expected);
    }

    /// The credential was enough, whatever came of the request; and nothing broke.
    fn let_in(&mut self, route: Route, who: &str, answer: &Answer) {
        let code = answer.1["code"].as_str().unwrap_or_default();
        let refused = matches!(
            (answer.0, code),
            (401, _)
                | (
                    403,
                    "PERMISSION_REQUIRED" | "NOT_ADMIN" | "FOREIGN_HOST" | "FOREIGN_ORIGIN"
                )
        );
        let broken = answer.0 >= 500 && !matches!(answer.0, 501 | 503);
        self.check(route, who, answer, !refused && !broken);
    }
}

/// The credentials that the matrix is walked with.
struct Keys {
    revoked: String,
    admin: String,
}

/// One route of the SDK contract; gives its line of the page, without the answer to an app with the permission.
async fn sdk_route(world: &World, keys: &Keys, route: Route, wrong: &mut Wrong) -> Vec<String> {
    let none = ask(world, route, As::Nobody).await;
    let dead = ask(world, route, As::Key(&keys.revoked)).await;
    let developer = ask(world, route, As::Key(&world.key)).await;
    let app = ask(world, route, As::App).await;
    match route.rule {
        Rule::Identity | Rule::Permission(_) => {
            wrong.is(route, "nobody", &none, &nobody());
            wrong.is(route, "a revoked key", &dead, &revoked());
            wrong.let_in(route, "a developer", &developer);
        }
        // The body says who it is, and this one says nothing: refused, but not for want of a header.
        Rule::Body => wrong.check(
            route,
            "nobody",
            &none,
            matches!(none.0, 400 | 401) && none.1["success"] == false,
        ),
        Rule::Open | Rule::Operator | Rule::Feed => wrong.let_in(route, "nobody", &none),
    }
    match route.rule {
        Rule::Permission(name) => {
            wrong.is(
                route,
                "an app without the permission",
                &app,
                &required(name),
            );
        }
        Rule::Identity => wrong.let_in(route, "an app", &app),
        Rule::Body | Rule::Open | Rule::Operator | Rule::Feed => {}
    }
    [&none, &app, &dead, &developer].map(shown).to_vec()
}

/// One route of the operator; gives its line of the page.
async fn operator_route(
    world: &World,
    keys: &Keys,
    route: Route,
    wrong: &mut Wrong,
) -> Vec<String> {
    let none = ask(world, route, As::Nobody).await;
    let app = ask(world, route, As::App).await;
    let dead = ask(world, route, As::Key(&keys.revoked)).await;
    let developer = ask(world, route, As::Key(&world.key)).await;
    let operator = ask(world, route, As::Operator).await;
    let admin = ask(world, route, As::Key(&keys.admin)).await;
    wrong.let_in(route, "the operator", &operator);
    wrong.let_in(route, "an administrator's key", &admin);
    if route.rule == Rule::Open {
        wrong.let_in(route, "nobody", &none);
    } else {
        wrong.is(route, "nobody", &none, &no_token());
        wrong.is(route, "an app", &app, &no_token());
        wrong.is(route, "a revoked key", &dead, &revoked());
        wrong.is(route, "a developer", &developer, &not_admin());
    }
    [&none, &app, &dead, &developer, &operator]
        .map(shown)
        .to_vec()
}

/// The events of the webhook: one route, whose body says what it wants.
const EVENTS: [(&str, Option<&str>, &str); 3] = [
    (
        "task.trigger",
        Some("webhook.trigger"),
        r#"{"event":"task.trigger","payload":{"raw_data":{},"auto_run":true,"agent_name":"nobody","workspace_slug":"default"}}"#,
    ),
    ("system.ping", None, r#"{"event":"system.ping"}"#),
    (
        "task.completed",
        None,
        r#"{"event":"task.completed","payload":{"task_uuid":"00000000-0000-4000-8000-000000000000","result":{}}}"#,
    ),
];

/// The webhook's lines of the page.
async fn webhook(world: &World, keys: &Keys, page: &mut String, wrong: &mut Wrong) {
    let route = Route {
        method: "POST",
        path: "/webhooks/realtimex",
        rule: Rule::Body,
    };
    for (event, permission, body) in EVENTS {
        let ask = async |who| ask_with(world, route, who, body).await;
        let none = ask(As::Nobody).await;
        let without = ask(As::App).await;
        let dead = ask(As::Key(&keys.revoked)).await;
        let developer = ask(As::Key(&world.key)).await;
        let with = if let Some(permission) = permission {
            wrong.is(route, "nobody", &none, &nobody());
            wrong.is(
                route,
                "an app without the permission",
                &without,
                &required(permission),
            );
            world
                .cli_ok(&["permissions", "grant", "demo", permission])
                .await;
            let with = ask(As::App).await;
            world
                .cli_ok(&["permissions", "deny", "demo", permission])
                .await;
            with
        } else {
            wrong.let_in(route, "nobody", &none);
            without.clone()
        };
        // A ping works for everybody; whoever says who it is otherwise must be somebody.
        if event == "system.ping" {
            wrong.let_in(route, "a revoked key", &dead);
        } else {
            wrong.is(route, "a revoked key", &dead, &revoked());
        }
        wrong.let_in(route, "a developer", &developer);
        wrong.let_in(route, "an app with the permission", &with);
        let wants = permission.map_or_else(|| "none".to_owned(), |name| format!("`{name}`"));
        let cells = [&none, &without, &with, &dead, &developer].map(shown);
        let _ = writeln!(
            page,
            "| the same, `{event}` | {wants} | {} |",
            cells.join(" | ")
        );
    }
}

/// With the permission, and with it taken away again.
async fn granted_and_denied(world: &World, route: Route, name: &str, wrong: &mut Wrong) -> String {
    world.cli_ok(&["permissions", "grant", "demo", name]).await;
    let granted = ask(world, route, As::App).await;
    wrong.let_in(route, "an app with the permission", &granted);
    world.cli_ok(&["permissions", "deny", "demo", name]).await;
    let denied = ask(world, route, As::App).await;
    wrong.is(route, "an app that was denied", &denied, &required(name));
    shown(&granted)
}

#[tokio::test]
async fn every_route_answers_every_credential_as_documented() {
    let world = World::start_with(&demo(), &[("ROWCALL__API__PERMISSION_TIMEOUT", "100ms")]).await;
    let line = |text: String| text.trim().to_owned();
    let keys = Keys {
        revoked: line(world.cli_ok(&["key", "add", "old"]).await),
        admin: line(world.cli_ok(&["key", "add", "boss", "--admin"]).await),
    };
    world.cli_ok(&["key", "revoke", "old"]).await;
    until("it is ready", async || {
        let (status, answer) = world.get("/rowcall/v1/ready", As::Nobody).await;
        if status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
    let mut routes = catalogue();
    assert!(routes.len() > 90, "{}", routes.len());
    routes.sort_by_key(|route| (route.path, route.method));
    // Nothing may be undone while the matrix is walked: removing and signing out come last.
    routes.sort_by_key(|route| route.method == "DELETE");
    let (mut wrong, mut sdk, mut operator) =
        (Wrong::default(), SDK.to_owned(), OPERATOR.to_owned());
    for route in routes {
        let name = format!("`{} {}`", route.method, route.path);
        if route.path.starts_with("/rowcall/") {
            let cells = operator_route(&world, &keys, route, &mut wrong).await;
            let _ = writeln!(operator, "| {name} | {} |", cells.join(" | "));
            continue;
        }
        let mut cells = sdk_route(&world, &keys, route, &mut wrong).await;
        let wants = match route.rule {
            Rule::Permission(permission) => {
                cells.insert(
                    2,
                    granted_and_denied(&world, route, permission, &mut wrong).await,
                );
                format!("`{permission}`")
            }
            other => {
                cells.insert(2, cells[1].clone());
                match other {
                    Rule::Identity => "none, but an identity",
                    Rule::Body => "none; the body says who asks",
                    _ => "none",
                }
                .to_owned()
            }
        };
        let _ = writeln!(sdk, "| {name} | {wants} | {} |", cells.join(" | "));
        if route.path == "/webhooks/realtimex" {
            webhook(&world, &keys, &mut sdk, &mut wrong).await;
        }
    }
    assert!(wrong.0.is_empty(), "{}", wrong.0);
    page(&format!("{HEAD}{sdk}{operator}"));
    world.daemon.stop().await;
}

/// Holds the page and the truth together.
fn page(now: &str) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http-api-matrix.md");
    if std::env::var_os("INSTA_UPDATE").is_some_and(|value| value == "always") {
        std::fs::write(file, now).unwrap();
    }
    let documented = std::fs::read_to_string(file).unwrap_or_default();
    let line = |(now, was): (&str, &str)| format!("- {was}\n+ {now}\n");
    let changed: String = now
        .lines()
        .zip(documented.lines().chain(std::iter::repeat("")))
        .filter(|(now, was)| now != was)
        .map(line)
        .collect();
    assert!(
        now == documented,
        "docs/http-api-matrix.md says something else (INSTA_UPDATE=always writes it anew):\n{changed}"
    );
}

#[tokio::test]
async fn the_app_id_counts_before_any_key() {
    let world = World::start().await;
    let bearer = |text: &str| ("authorization", format!("Bearer {text}"));
    for (headers, expected) in [
        (
            vec![("x-app-id", world.app.clone()), bearer(&world.key)],
            (200, "production"),
        ),
        (
            vec![
                ("x-app-id", String::new()),
                ("x-api-key", world.key.clone()),
            ],
            (200, "development"),
        ),
        (
            vec![("x-api-key", world.key.clone()), bearer("a user's token")],
            (200, "development"),
        ),
        (vec![bearer("")], (401, "MISSING_APP_ID")),
        (
            vec![("authorization", "Basic abc".to_owned())],
            (401, "MISSING_APP_ID"),
        ),
        (
            vec![
                ("x-app-id", "nobody".to_owned()),
                ("x-api-key", world.key.clone()),
            ],
            (401, "INVALID_APP_ID"),
        ),
    ] {
        let mut request = world.request(Method::GET, "/sdk/ping", As::Nobody);
        for (name, value) in &headers {
            request = request.header(*name, value);
        }
        let (status, answer) = world.send(request).await;
        let word = answer["mode"].as_str().or(answer["code"].as_str());
        assert_eq!(
            (status, word.unwrap_or_default()),
            expected,
            "{headers:?}: {answer}"
        );
    }
    world.cli_ok(&["app", "disable", "demo"]).await;
    assert_eq!(
        world.get("/sdk/ping", As::App).await.0,
        401,
        "an app that is switched off is nobody"
    );
    world.daemon.stop().await;
}
