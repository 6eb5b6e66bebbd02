//! What can be looked at in a Supabase project, with the right to it that the daemon has.

use std::time::Duration;

use futures_util::StreamExt as _;
use rowcall_backend::{
    SupabaseBackend,
    custom::recovery_sql,
    setup::publish_script,
    supabase::{Capture, ExaminedTable, Project as Found},
};
use rowcall_core::{App, MachineId, Signal, TableName, ports::SignalSource as _};

use super::Finding;
use crate::{
    cli::Context,
    config::BackendKind,
    daemon::{Project, wanted},
    exit::UserError,
};

/// Clocks that differ by more than this make tokens expire at the wrong time.
const MAX_CLOCK_SKEW_SECONDS: i64 = 5;

/// How long Realtime may take to let the channels in.
const REALTIME_LIMIT: Duration = Duration::from_secs(10);

/// Channels of one connection that Supabase allows.
const MAX_CHANNELS: usize = 100;

/// How long the app of custom mode may take.
const APP_LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn look(context: &Context) -> Vec<Finding> {
    let (project, apps) = match context.project().await {
        Ok(found) => found,
        Err(error) => {
            let help = error
                .downcast_ref::<UserError>()
                .and_then(|error| error.help.clone());
            return vec![Finding::problem(
                "project",
                format!("{error:#}"),
                help.unwrap_or_default(),
            )];
        }
    };
    let machine = MachineId::new("rowcall-doctor").expect("a valid id");
    let (backend, driver) = match project.backend(&machine, wanted(&apps)) {
        Ok(made) => made,
        Err(error) => {
            return vec![Finding::problem(
                "project",
                error.to_string(),
                "check backend.url",
            )];
        }
    };
    let found = match backend.probe().await {
        Ok(found) => found,
        Err(error) => {
            let help = match error.class {
                rowcall_core::ErrorClass::Unauthorized => {
                    "check the key: backend.key, or `rowcall login --key`"
                }
                _ => "check backend.url, and that the project is not paused",
            };
            return vec![Finding::problem(
                "project",
                format!("{}: {error}", project.url),
                help,
            )];
        }
    };
    let kind = context.config.backend.kind();
    let mut findings = vec![Finding::good(
        "project",
        format!("{} takes our key", project.url),
    )];
    findings.push(who(&project, &found));
    findings.push(clock(&found));
    if kind == BackendKind::Supabase {
        findings.extend(schema(&found));
        findings.extend(rights(&project, &found));
    }
    for (table, plan) in &found.tables {
        let examined = found
            .examined
            .as_ref()
            .and_then(|examined| examined.table(table));
        let published = examined.map(|one| one.published).or(plan.published);
        findings.extend(self::table(
            table,
            kind,
            plan.capture,
            published,
            examined,
            &found,
        ));
    }
    if found.tables.is_empty() {
        findings.push(Finding::notice(
            "tables",
            "no app listens to a table",
            "rowcall app add FILE, or `rowcall tables` to choose",
        ));
    }
    if found.publications.is_none() {
        findings.push(Finding::notice(
            "discovery",
            "the project has no get_publications_full()",
            "rowcall setup, or run the SQL of `rowcall setup --print`",
        ));
    }
    let driving = tokio::spawn(driver.run());
    findings.push(realtime(&backend).await);
    driving.abort();
    findings.push(limits(&found, &apps));
    if let Some(custom) = &project.custom {
        findings.push(app(custom).await);
    }
    findings
}

fn who(project: &Project, found: &Found) -> Finding {
    if found.signed_in {
        Finding::good("access", "as a signed-in user")
    } else if project.is_privileged() {
        Finding::notice(
            "access",
            "with a service key, which row level security does not hold back",
            "safer: an anon or publishable key, and `rowcall login --user EMAIL`",
        )
    } else {
        Finding::good("access", "with the anon or publishable key, without a user")
    }
}

fn clock(found: &Found) -> Finding {
    match found.clock_ahead {
        Some(ahead) if ahead.abs() > MAX_CLOCK_SKEW_SECONDS => Finding::notice(
            "clock",
            format!(
                "this machine's clock differs from the project's by {} s",
                ahead.abs()
            ),
            "leases do not depend on it, tokens and logs do: synchronise the clocks (NTP)",
        ),
        Some(_) => Finding::good("clock", "as the project's"),
        None => Finding::notice(
            "clock",
            "the project does not tell the time",
            "nothing to do",
        ),
    }
}

const SETUP: &str =
    "rowcall setup, or run the SQL of `rowcall setup --print` in the project's SQL editor";

fn schema(found: &Found) -> Vec<Finding> {
    if !found.activities {
        return vec![Finding::problem(
            "schema",
            "the project has no table rtx_activities, or does not show it",
            SETUP,
        )];
    }
    if found.functions && found.columns {
        return vec![Finding::good(
            "schema",
            "rtx_activities with our columns and functions",
        )];
    }
    let mut findings = Vec::new();
    if found.claim_function {
        findings.push(Finding::notice(
            "schema",
            "as RealTimeX makes it: one request for each claim, settlements fenced by machine only",
            SETUP,
        ));
    } else {
        findings.push(Finding::problem(
            "schema",
            "there is no function rtx_fn_claim_task that we may call",
            SETUP,
        ));
    }
    findings
}

/// With row level security on, only users see rows.
fn rights(project: &Project, found: &Found) -> Option<Finding> {
    if !found.activities {
        return None;
    }
    Some(match found.row_security {
        Some(true) if !found.signed_in && !project.is_privileged() => Finding::problem(
            "row level security",
            "it is on for rtx_activities, and without a user this machine sees no task",
            "rowcall login --user EMAIL   (a user of the project sees its own tasks)\n\
             or set backend.service_key on machines that you trust\n\
             or open the table to everybody who has the key:\n  alter table public.rtx_activities disable row level security;\n  \
             grant select, insert, update on public.rtx_activities to anon;",
        ),
        Some(true) => Finding::good("row level security", "on"),
        Some(false) => Finding::notice(
            "row level security",
            "off for rtx_activities: whoever has the key sees and changes every task",
            "alter table public.rtx_activities enable row level security; -- then sign machines in with `rowcall login --user EMAIL`",
        ),
        None => Finding::notice("row level security", "the project does not tell", SETUP),
    })
}

fn table(
    table: &TableName,
    kind: BackendKind,
    capture: Option<Capture>,
    published: Option<bool>,
    examined: Option<&ExaminedTable>,
    found: &Found,
) -> Vec<Finding> {
    let check = format!("table {table}");
    let quoted = quoted(table);
    if examined.is_some_and(|one| !one.exists) {
        return vec![Finding::problem(
            &check,
            "there is no such table",
            "mend the app's manifest: `rowcall tables` shows what there is",
        )];
    }
    let mut findings = Vec::new();
    match published {
        Some(false) => findings.push(Finding::problem(
            &check,
            "it is not in the publication supabase_realtime: nobody hears of its changes",
            publish_script(table),
        )),
        None => findings.push(Finding::notice(
            &check,
            "whether it is in the publication cannot be seen",
            SETUP,
        )),
        Some(true) => {}
    }
    if examined.is_some_and(|one| !one.replica_identity) {
        findings.push(Finding::notice(
            &check,
            "its replica identity is not full: old rows of updates and deletes are told without their values",
            format!("alter table {quoted} replica identity full;"),
        ));
    }
    if let (Some(one), Some(examined)) = (examined, &found.examined)
        && !(one.readable && (one.writable || kind == BackendKind::Custom))
    {
        let role = examined.role.as_deref().unwrap_or("anon");
        let consequence = if kind == BackendKind::Custom {
            "only the app can look after its locks"
        } else {
            "its tasks cannot be claimed"
        };
        findings.push(Finding::problem(
            &check,
            format!("the role {role} may not read and write it: {consequence}"),
            format!("grant select, update on {quoted} to {role};"),
        ));
    }
    match (kind, capture) {
        (BackendKind::Custom, None) => findings.push(Finding::notice(
            &check,
            "it cannot be read with this key, or has no columns status, locked_by, locked_at: the app must recover stale locks itself",
            recovery_sql(table),
        )),
        (_, None) => findings.push(Finding::problem(&check, "its changes cannot become tasks", SETUP)),
        (_, Some(Capture::Daemon)) => findings.push(Finding::notice(
            &check,
            "daemons write its tasks from Realtime events: what changes while all of them are off is missed",
            format!("with the database's URL a trigger can do it: rowcall setup --database-url URL --table {table}"),
        )),
        (_, Some(Capture::Trigger | Capture::Rows)) => {}
    }
    if findings
        .iter()
        .all(|one| one.verdict != super::Verdict::Problem)
    {
        let how = match capture {
            Some(Capture::Trigger) => "a trigger makes its changes into tasks",
            Some(Capture::Rows) => "its rows are the tasks",
            Some(Capture::Daemon) => "daemons make its changes into tasks",
            None => "only the app knows its tasks",
        };
        findings.insert(0, Finding::good(&check, how));
    }
    findings
}

fn quoted(table: &TableName) -> String {
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", quote(table.schema()), quote(table.name()))
}

/// Whether the channels come up.
async fn realtime(backend: &SupabaseBackend) -> Finding {
    let mut signals = backend.signals();
    let up = async {
        let mut last = None;
        // Nothing else can be down once nothing was said for a moment after an up.
        while let Some(signal) = signals.next().await {
            match signal {
                Signal::Up => {
                    let quiet =
                        tokio::time::timeout(Duration::from_millis(300), signals.next()).await;
                    match quiet {
                        Err(_) => return Ok(()),
                        Ok(Some(Signal::Down { reason, .. })) => last = Some(reason),
                        Ok(_) => {}
                    }
                }
                Signal::Down { reason, .. } => last = Some(reason),
                _ => {}
            }
            if let Some(reason) = &last
                && reason.contains("Unable to subscribe")
            {
                break;
            }
        }
        Err(last)
    };
    match tokio::time::timeout(REALTIME_LIMIT, up).await {
        Ok(Ok(())) => Finding::good("realtime", "every channel is joined"),
        Ok(Err(Some(reason))) => Finding::problem(
            "realtime",
            reason,
            "tasks are found by polling meanwhile; see the tables above",
        ),
        _ => Finding::problem(
            "realtime",
            format!(
                "no channel was joined within {} s",
                REALTIME_LIMIT.as_secs()
            ),
            "check that Realtime is enabled for the project, and that WebSockets pass the firewall; tasks are found by polling meanwhile",
        ),
    }
}

fn limits(found: &Found, apps: &[App]) -> Finding {
    let channels = found.tables.len() + apps.len() + 1;
    let timeout = found
        .examined
        .as_ref()
        .and_then(|one| one.statement_timeout.clone());
    let statements = timeout.map_or(String::new(), |limit| {
        format!("; statements may take {limit}")
    });
    let found =
        format!("{channels} of {MAX_CHANNELS} Realtime channels of a connection{statements}");
    if channels > MAX_CHANNELS {
        return Finding::problem(
            "limits",
            found,
            "spread the apps over several machines, or have them listen to fewer tables",
        );
    }
    Finding::good("limits", found)
}

/// Whether the app of custom mode answers; it is asked for a lock of a task that does not exist.
async fn app(custom: &rowcall_backend::CustomConfig) -> Finding {
    let url = custom
        .lock_url
        .clone()
        .unwrap_or_else(|| format!("{}/api/task-lock", custom.app_url.trim_end_matches('/')));
    let problem = |found: String| {
        Finding::problem(
            "app",
            found,
            "start the app, or mend backend.app_url; docs/custom-mode.md says what it must answer",
        )
    };
    let client = match reqwest::Client::builder()
        .timeout(APP_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
    {
        Ok(client) => client,
        Err(error) => return problem(error.to_string()),
    };
    let body = serde_json::json!({
        "task_id": uuid::Uuid::nil(), "table_name": "rowcall_doctor", "machine_id": "rowcall-doctor", "user_email": "",
    });
    match client.post(&url).json(&body).send().await {
        Err(error) => problem(format!("{url} does not answer: {}", error.without_url())),
        Ok(answer) => {
            let status = answer.status();
            let said: Option<serde_json::Value> = answer.json().await.ok();
            match said.as_ref().map(|said| &said["success"]) {
                Some(serde_json::Value::Bool(_)) => Finding::good("app", format!("{url} answers")),
                _ => problem(format!(
                    "{url} answers {status}, which is neither yes nor no"
                )),
            }
        }
    }
}
