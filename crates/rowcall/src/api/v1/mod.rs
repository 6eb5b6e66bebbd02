//! Our own API, `/rowcall/v1`: for the command line, the dashboard, and programs of the operator's.
//!
//! Every handler is described for OpenAPI beside itself; a test holds the document and the routes together.

mod agents;
mod apps;
mod apps_process;
mod calendar;
mod events;
mod health;
mod ics;
mod keys;
mod machine;
mod metrics;
mod permissions;
mod queues;
mod schema;
mod session;
mod tasks;
mod tasks_change;
mod workspaces;

use serde::Serialize;
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, PathItem},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{error::ApiError, rules::Routes};

/// All of them.
pub(super) fn routes() -> Routes {
    Routes::default()
        .merge(health::routes())
        .merge(machine::routes())
        .merge(tasks::routes())
        .merge(tasks_change::routes())
        .merge(calendar::routes())
        .merge(ics::routes())
        .merge(apps::routes())
        .merge(agents::routes())
        .merge(apps_process::routes())
        .merge(permissions::routes())
        .merge(workspaces::routes())
        .merge(keys::routes())
        .merge(events::routes())
        .merge(metrics::routes())
        .merge(queues::routes())
        .merge(session::routes())
}

/// The answer when something was done and there is nothing more to say.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    success: bool,
    /// What was done, for people.
    message: String,
}

impl Done {
    fn json(message: impl Into<String>) -> axum::Json<Self> {
        axum::Json(Self {
            success: true,
            message: message.into(),
        })
    }
}

/// Every error.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body that ApiError writes")]
struct Problem {
    /// Always false.
    success: bool,
    /// What happened and what to do, for people.
    error: String,
    /// The same in one word, for programs.
    code: String,
}

/// A name in a path.
fn app_id(text: &str) -> Result<rowcall_core::AppId, ApiError> {
    rowcall_core::AppId::new(text).map_err(|_| ApiError::not_found("App"))
}

/// A task's id in a path.
fn task_id(text: &str) -> Result<rowcall_core::TaskId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("Task"))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rowcall",
        description = "The operator's API of one machine. The published SDK contract on the same port is described in docs/http-api.md."
    ),
    paths(
        health::health, health::ready, health::document,
        machine::machines, machine::status,
        tasks::list, tasks::get, tasks::logs,
        tasks_change::create, tasks_change::run, tasks_change::retry, tasks_change::release, tasks_change::cancel,
        calendar::list, calendar::get, calendar::run, calendar::skip, calendar::reschedule, calendar::bulk,
        ics::feed, ics::address,
        apps::list, apps::get, apps::put, apps::remove, apps::enable, apps::disable, apps::agents, agents::put, agents::remove,
        apps_process::start, apps_process::stop, apps_process::restart, apps_process::logs,
        permissions::list, permissions::decide, permissions::reset, permissions::log,
        workspaces::list, workspaces::add, workspaces::remove, workspaces::threads, workspaces::add_thread,
        workspaces::remove_thread,
        keys::list, keys::add, keys::revoke,
        events::events,
        metrics::metrics,
        queues::list, queues::workers,
        session::sign_in, session::sign_out,
    ),
    components(schemas(Problem)),
    modifiers(&Security),
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        if let Some(components) = openapi.components.as_mut() {
            components.add_security_scheme(
                "token",
                SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
            );
        }
        for item in openapi.paths.paths.values_mut() {
            operations(item).for_each(complete);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ]
    .into_iter()
    .flatten()
}

/// Adds what is the same for every operation, so that no handler has to repeat it.
fn complete(operation: &mut Operation) {
    // Handlers have names within their module: `list` of tasks, `list` of apps.
    let tag = operation.tags.iter().flatten().next();
    if let (Some(tag), Some(id)) = (tag, &operation.operation_id) {
        operation.operation_id = Some(format!("{tag}_{id}"));
    }
    let mut expected = vec!["400"];
    if operation.security.is_some() {
        expected.extend(["401", "403"]);
    }
    if operation.request_body.is_some() {
        expected.extend(["413", "415"]);
    }
    let responses = &mut operation.responses.responses;
    for status in expected {
        responses
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(problem()));
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            meaning(status).clone_into(&mut response.description);
        }
    }
}

fn problem() -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new()
        .content("application/json", content.build())
        .build()
}

/// What a status means where an operation does not say more.
fn meaning(status: &str) -> &'static str {
    match status {
        "200" => "Done",
        "201" => "Made",
        "400" => "The request says what cannot be",
        "401" => "No credential, or one that is not valid",
        "403" => "The credential is not an administrator's",
        "404" => "There is no such thing",
        "409" => "Not in the state things are in",
        "413" => "The body is too large",
        "415" => "The body is not JSON",
        "503" => "Try again later",
        _ => "An error",
    }
}

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn operations_have_their_own_names_and_every_answer_a_description() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut names = BTreeSet::new();
        for operations in document["paths"].as_object().unwrap().values() {
            for operation in operations.as_object().unwrap().values() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name), "{name} is used twice");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    assert_ne!(response["description"], "", "{name} {status}");
                    assert_ne!(response["description"], "An error", "{name} {status}");
                }
            }
        }
    }

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut described = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                described.insert((method.clone(), path.clone()));
            }
        }
        let routes: BTreeSet<(String, String)> = routes()
            .table()
            .iter()
            .map(|route| (route.method.to_lowercase(), route.path.to_owned()))
            .collect();
        assert_eq!(described, routes);
    }
}
