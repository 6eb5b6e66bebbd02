//! What can be looked at without the database.

use std::{collections::BTreeSet, path::Path};

use rowcall_core::{AgentKind, App, Runtime};
use rowcall_stack::cluster::{ClusterError, DataDirLock};

use super::Finding;
use crate::{api, cli::Context, daemon::RunFile};

/// Less free space than this in the data directory is worth a word.
const LOW_SPACE_BYTES: u64 = 1024 * 1024 * 1024;

pub(super) async fn machine(context: &Context) -> Vec<Finding> {
    let mut findings = Vec::new();
    let dir = match context.data_dir() {
        Ok(dir) => dir,
        Err(error) => {
            return vec![Finding::problem(
                "data directory",
                error.to_string(),
                "choose one with --data-dir",
            )];
        }
    };
    findings.push(Finding::good("data directory", dir.display().to_string()));
    findings.extend(space(&dir));
    findings.push(daemon(&dir, context).await);
    match context.store().and_then(|store| Ok(store.apps()?)) {
        Ok(rows) if rows.is_empty() => {
            findings.push(Finding::notice("apps", "none", "rowcall app add FILE"));
        }
        Ok(rows) => {
            for row in rows {
                let check = format!("app {}", row.name);
                match row.parse() {
                    Ok(app) if row.enabled => findings.extend(app_works(&check, &app)),
                    Ok(_) => findings.push(Finding::notice(
                        &check,
                        "switched off",
                        format!("rowcall app enable {}", row.name),
                    )),
                    Err(error) => findings.push(Finding::problem(
                        &check,
                        format!("its manifest cannot be read: {error}"),
                        format!("rowcall app add FILE --name {} --replace", row.name),
                    )),
                }
            }
        }
        Err(error) => findings.push(Finding::problem(
            "local store",
            error.to_string(),
            "see docs/operations.md",
        )),
    }
    findings
}

fn space(dir: &Path) -> Option<Finding> {
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    let free = stat.blocks_available() * stat.fragment_size();
    (free < LOW_SPACE_BYTES).then(|| {
        let found = format!("{} MB left in {}", free / 1_000_000, dir.display());
        Finding::notice(
            "disk",
            found,
            "PostgreSQL stops when the disk is full: make room, or move --data-dir",
        )
    })
}

async fn daemon(dir: &Path, context: &Context) -> Finding {
    match DataDirLock::acquire(dir) {
        Err(ClusterError::Locked { .. }) => match RunFile::read(dir) {
            Ok(Some(running)) => Finding::good(
                "daemon",
                format!(
                    "runs as process {}, local API on port {}",
                    running.pid, running.api_port
                ),
            ),
            _ => Finding::notice("daemon", "starting, or stopping", "look again in a moment"),
        },
        Err(error) => Finding::problem("daemon", error.to_string(), "see docs/operations.md"),
        Ok(lock) => {
            drop(lock);
            match api::bind(context.config.api.port).await {
                Ok(_) => Finding::notice("daemon", "not running", "rowcall up"),
                Err(error) => Finding::problem(
                    "daemon",
                    format!("not running, and {error}"),
                    "rowcall up --api-port PORT",
                ),
            }
        }
    }
}

fn app_works(check: &str, app: &App) -> Vec<Finding> {
    let mut findings: Vec<Finding> = crate::cli::app::problems(app)
        .into_iter()
        .map(|problem| {
            Finding::problem(
                check,
                problem,
                "change the manifest, then `rowcall app add FILE --replace`",
            )
        })
        .collect();
    let mut missing = BTreeSet::new();
    for agent in app
        .routes()
        .iter()
        .filter_map(|route| app.agent(&route.agent))
    {
        let (AgentKind::Process(command) | AgentKind::Worker { command, .. }) = &agent.kind else {
            continue;
        };
        if let Some(program) = missing_program(command.runtime, command.program.as_deref()) {
            missing.insert(program);
        }
        if let Some(dir) = command.working_dir.as_ref().filter(|dir| !dir.is_dir()) {
            let found = format!(
                "agent {} runs in {}, which is no directory",
                agent.id,
                dir.display()
            );
            findings.push(Finding::problem(
                check,
                found,
                format!("mkdir -p {}", dir.display()),
            ));
        }
    }
    for program in missing {
        findings.push(Finding::problem(
            check,
            format!("{program} is not on PATH"),
            format!("install {program}"),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::good(
            check,
            format!(
                "{} handler(s), {} at once",
                app.routes().len(),
                app.max_concurrent_tasks()
            ),
        ));
    }
    findings
}

/// The program of a runtime that is not on `PATH`.
fn missing_program(runtime: Runtime, program: Option<&str>) -> Option<String> {
    let candidates: Vec<String> = match (runtime, program) {
        (Runtime::Python, None | Some("python" | "python3")) => {
            vec!["python3".into(), "python".into()]
        }
        (Runtime::Node, None) => vec!["node".into()],
        (Runtime::Npx, None) => vec!["npx".into()],
        (Runtime::Uvx, None) => vec!["uvx".into()],
        (_, Some(program)) if program.contains('/') => {
            return (!Path::new(program).is_file()).then(|| program.to_owned());
        }
        (_, Some(program)) => vec![program.to_owned()],
        (Runtime::Custom, None) => return None,
    };
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .any(|dir| candidates.iter().any(|name| dir.join(name).is_file()))
    });
    (!found).then(|| candidates[0].clone())
}
