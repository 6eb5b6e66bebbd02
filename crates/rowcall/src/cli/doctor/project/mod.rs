//! What can be looked at in a Supabase project, with the right to it that the daemon has.

mod app;
mod realtime;
mod table;
#[cfg(test)]
mod tests;

use rowcall_backend::supabase::Project as Found;
use rowcall_core::MachineId;

use super::Finding;
use crate::{
    cli::Context,
    config::BackendKind,
    daemon::{Project, wanted},
    exit::UserError,
};

/// Clocks that differ by more than this make tokens expire at the wrong time.
const MAX_CLOCK_SKEW_SECONDS: i64 = 5;

pub(in crate::cli) async fn look(context: &Context) -> Vec<Finding> {
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
        findings.extend(table::look(
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
    findings.push(realtime::look(&backend).await);
    driving.abort();
    findings.push(realtime::limits(&found, apps.len()));
    if let Some(custom) = &project.custom {
        findings.push(app::look(custom).await);
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
