//! How the changes of a table become tasks, and what is in the way.

use rowcall_backend::{
    custom::recovery_sql,
    setup::publish_script,
    supabase::{Capture, ExaminedTable, Project as Found},
};
use rowcall_core::TableName;

use super::{
    super::{Finding, Verdict},
    SETUP,
};
use crate::config::BackendKind;

pub(super) fn look(
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
        let role = found.role();
        return vec![Finding::problem(
            &check,
            format!("there is no such table, or the role {role} may not see it"),
            format!(
                "grant select, update on {quoted} to {role};\n-- or mend the app's manifest: `rowcall tables` shows what there is"
            ),
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
    if let Some(one) = examined
        && !(one.readable && (one.writable || kind == BackendKind::Custom))
    {
        let role = found.role();
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
            format!("a trigger can do it: rowcall setup --table {table} --events insert,update,delete"),
        )),
        (_, Some(Capture::Trigger | Capture::Rows)) => {}
    }
    if findings.iter().all(|one| one.verdict != Verdict::Problem) {
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
