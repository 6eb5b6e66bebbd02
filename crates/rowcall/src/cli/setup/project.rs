//! Setting up a project that is reached over HTTP, through Supabase's Management API, and printing the same SQL.

use std::{collections::BTreeSet, io::IsTerminal as _, time::Duration};

use rowcall_backend::{
    capture::{self, CaptureSpec},
    migrate::MigrateOptions,
};
use rowcall_core::{EventKind, MachineId, TableName};
use secrecy::SecretString;

use crate::{
    cli::{Context, login::ask},
    config::BackendKind,
    daemon::{load_apps, wanted},
    exit::{Exit, UserError},
    management::{LoginError, Management, ManagementError, project_ref},
    output,
    secrets::{Name, Secrets},
};

/// How often, and how many times, the project is asked whether it shows its new functions over REST.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const MAX_LOOKS: u32 = 30;

/// What is asked for on the command line.
pub(super) struct Wish {
    /// Tables whose changes become tasks by triggers.
    pub(super) captures: Vec<CaptureSpec>,
    pub(super) account: Option<String>,
    pub(super) project_ref: Option<String>,
    pub(super) replace_functions: bool,
}

/// An account with the right to the project.
struct Access {
    account: String,
    api: Management,
}

impl Wish {
    /// The SQL that sets the project up.
    pub(super) fn sql(&self, context: &Context) -> anyhow::Result<String> {
        let apps = load_apps(&context.store()?)?;
        let wanted = wanted(&apps).selectors.into_iter().map(|one| one.table);
        let mut tables: BTreeSet<TableName> = wanted.collect();
        tables.remove(&TableName::activities());
        let named = self.captures.iter().map(|spec| spec.table.clone());
        Ok(match context.config.backend.kind() {
            // The app's own tables are its own: nothing is captured.
            BackendKind::Custom => {
                tables.extend(named);
                rowcall_backend::setup::custom_script(&tables.into_iter().collect::<Vec<_>>())
            }
            BackendKind::Postgres | BackendKind::Supabase => {
                let options = MigrateOptions {
                    replace_functions: self.replace_functions,
                };
                let captures = self.captures.iter().map(capture::script);
                let captures = captures
                    .collect::<Result<Vec<String>, _>>()
                    .map_err(|error| UserError::of(Exit::Usage, &error))?;
                // What triggers write needs no Realtime of its own.
                named.for_each(|table| {
                    tables.remove(&table);
                });
                let tables: Vec<TableName> = tables.into_iter().collect();
                rowcall_backend::setup::script_with(options, &tables, &captures)
            }
        })
    }

    /// Sets the project up.
    pub(super) async fn set_up(self, context: &Context) -> anyhow::Result<Exit> {
        let url = context.project_url()?;
        let project = match &self.project_ref {
            Some(name) => name.clone(),
            None => project_ref(&url).ok_or_else(|| {
                UserError::new(Exit::Usage, format!("{url} does not say which project it is"))
                    .help("name it with --project-ref, or run the SQL of `rowcall setup --print` in the project yourself")
            })?,
        };
        let sql = self.sql(context)?;
        let secrets = context.secrets()?;
        let access = self.access(context, &secrets, &project).await?;
        let refused = |error: ManagementError| -> anyhow::Error {
            let help = match &error {
                ManagementError::Denied | ManagementError::Unauthorized => {
                    "use an account with write access: `rowcall login`, then `rowcall setup` again"
                }
                _ => {
                    "the SQL is that of `rowcall setup --print`: it can be run in the project's SQL editor too"
                }
            };
            UserError::new(
                Exit::Failure,
                format!("the project was not set up: {error}"),
            )
            .code(error.code())
            .help(help)
            .into()
        };
        access.api.query(&project, &sql).await.map_err(refused)?;
        output::note(format_args!(
            "the project is set up (as {})",
            access.account
        ));
        for spec in &self.captures {
            if context.config.backend.kind() != BackendKind::Custom {
                let events: Vec<&str> = spec.events.iter().map(EventKind::as_str).collect();
                output::note(format_args!(
                    "{}: {} become tasks",
                    spec.table,
                    events.join(", ").to_lowercase()
                ));
            }
        }
        if context.config.backend.key.is_none() && secrets.get(&Name::Key(url.clone()))?.is_none() {
            match access.api.client_key(&project).await {
                Ok(Some(key)) => keep_key(&secrets, &url, &key)?,
                Ok(None) => {
                    output::note("the project has no publishable or anon key: set backend.key");
                }
                Err(error) => output::note(format_args!(
                    "the project's key was not fetched ({error}): set backend.key"
                )),
            }
        }
        wait_until_seen(context).await
    }

    /// An account that may see the project: the one that is named or in use, or another one that a person agrees to.
    async fn access(
        &self,
        context: &Context,
        secrets: &Secrets,
        project: &str,
    ) -> anyhow::Result<Access> {
        let (accounts, used) = secrets.accounts()?;
        let given = std::env::var("SUPABASE_ACCESS_TOKEN")
            .ok()
            .filter(|token| !token.is_empty());
        let api =
            |token: SecretString| Management::new(&context.config.backend.management_url, token);
        if let (None, Some(token)) = (&self.account, given) {
            let access = Access {
                account: "SUPABASE_ACCESS_TOKEN".to_owned(),
                api: api(token.into())?,
            };
            return match access.api.project(project).await {
                Ok(_) => Ok(access),
                Err(error) => Err(denied("SUPABASE_ACCESS_TOKEN", &error, None)),
            };
        }
        let first = self.account.clone().or(used).or_else(|| accounts.first().cloned()).ok_or_else(|| {
            UserError::of(Exit::Failure, &LoginError::Nobody)
                .help("`rowcall login`, or run the SQL of `rowcall setup --print` in the project yourself")
        })?;
        let open = |account: &str| -> anyhow::Result<Access> {
            let token = secrets
                .get(&Name::Account(account.to_owned()))?
                .ok_or_else(|| {
                    UserError::new(
                        Exit::NotFound,
                        format!("account {account} is not logged in"),
                    )
                    .help("`rowcall login --list` shows the accounts, `rowcall login` adds one")
                })?;
            Ok(Access {
                account: account.to_owned(),
                api: api(token)?,
            })
        };
        let access = open(&first)?;
        let error = match access.api.project(project).await {
            Ok(found) => {
                if found.status.starts_with("INACTIVE") || found.status.starts_with("PAUS") {
                    return Err(UserError::new(
                        Exit::Failure,
                        format!("project {} is paused", found.name),
                    )
                    .help("restore it in the dashboard, then run this again")
                    .into());
                }
                return Ok(access);
            }
            Err(
                error @ (ManagementError::Denied
                | ManagementError::NotFound
                | ManagementError::Unauthorized),
            ) => error,
            Err(error) => return Err(error.into()),
        };
        for other in accounts.iter().filter(|other| **other != first) {
            let access = open(other)?;
            if access.api.project(project).await.is_err() {
                continue;
            }
            if std::io::stdin().is_terminal() {
                output::note(format_args!("{first}: {error}"));
                let answer = ask(&format!(
                    "switch to account {other}, which has access? [y/N] "
                ))?;
                if answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes") {
                    secrets.use_account(other)?;
                    return Ok(access);
                }
            }
            return Err(denied(&first, &error, Some(other)));
        }
        Err(denied(&first, &error, None))
    }
}

fn denied(account: &str, error: &ManagementError, other: Option<&str>) -> anyhow::Error {
    let help = match other {
        Some(other) => format!("account {other} has access: `rowcall setup --account '{other}'`, or `rowcall login --use '{other}'` for good"),
        None => "switch the account: `rowcall login` with one that has write access to the project, then run this again".to_owned(),
    };
    UserError::new(Exit::Failure, format!("account {account}: {error}"))
        .code(error.code())
        .help(help)
        .into()
}

fn keep_key(secrets: &Secrets, url: &str, key: &SecretString) -> anyhow::Result<()> {
    secrets.put(&Name::Key(url.to_owned()), key)?;
    output::note("the project's key for clients is kept where secrets are kept");
    Ok(())
}

/// REST shows new functions a moment after they are there.
async fn wait_until_seen(context: &Context) -> anyhow::Result<Exit> {
    let (project, apps) = context.project().await?;
    let (backend, _) = project.backend(&MachineId::new("rowcall-cli")?, wanted(&apps))?;
    for _ in 0..MAX_LOOKS {
        match backend.publications().await {
            Ok(Some(_)) => {
                output::note("it answers over REST; `rowcall doctor` looks closer");
                return Ok(Exit::Success);
            }
            Ok(None) => tokio::time::sleep(LOOK_EVERY).await,
            Err(error) => {
                return Err(UserError::new(
                    Exit::Failure,
                    format!("the project is set up, but cannot be used: {error}"),
                )
                .help("`rowcall doctor` looks closer")
                .into());
            }
        }
    }
    Err(UserError::new(
        Exit::Failure,
        "the project is set up, but does not show its new functions over REST yet",
    )
    .help("look again in a minute with `rowcall doctor`")
    .into())
}
