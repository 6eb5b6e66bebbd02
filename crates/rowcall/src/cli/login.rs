//! `rowcall login` and `rowcall logout`

mod prompt;

use clap::Args;
use rowcall_core::{Clock as _, IdSource as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

pub(super) use self::prompt::ask;
use self::prompt::ask_hidden;
use super::Context;
use crate::{
    daemon::{host_name, session_text},
    exit::{Exit, UserError},
    management::{LoginAttempt, LoginError, Management, ManagementError, is_token},
    output,
    secrets::{Kept, Name, Secrets},
    system::{RandomIds, SystemClock},
};

const IN_FILE: &str = "in secrets.json in the data directory, readable by its owner only";

/// How often a person may mistype the code.
const CODE_TRIES: u32 = 3;

/// Log in to Supabase, or keep a key or a user's session of the project.
#[derive(Debug, Args)]
#[command(
    after_help = "Without an option a browser opens; log in there and type the code it shows.\n\
    Secrets are read from standard input, never from the command line, and kept in the system's keyring where there is one,\n\
    else in secrets.json in the data directory.\n\n\
    Example: echo \"$SUPABASE_ACCESS_TOKEN\" | rowcall login --token --name work"
)]
#[expect(clippy::struct_excessive_bools, reason = "options of a command line")]
pub struct Login {
    /// The name of the account here; its address when absent
    #[arg(long)]
    name: Option<String>,
    /// Take an access token from `SUPABASE_ACCESS_TOKEN` or standard input instead of opening a browser
    #[arg(long, conflicts_with_all = ["no_browser", "key", "user", "list", "switch"])]
    token: bool,
    /// Only print the address of the page
    #[arg(long)]
    no_browser: bool,
    /// List the accounts
    #[arg(long, conflicts_with_all = ["key", "user", "switch", "name"])]
    list: bool,
    /// Use another account that is logged in
    #[arg(long = "use", value_name = "NAME", conflicts_with_all = ["key", "user"])]
    switch: Option<String>,
    /// Take the anon or publishable key of the project from standard input and keep it
    #[arg(long, conflicts_with = "user")]
    key: bool,
    /// Sign in to the project as this user, with a password from standard input
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// Print JSON, with --list
    #[arg(long, requires = "list")]
    json: bool,
}

/// Forget an account, or the key or session of the project.
#[derive(Debug, Args)]
pub struct Logout {
    /// The account; the one in use when absent
    #[arg(conflicts_with_all = ["key", "user"])]
    account: Option<String>,
    /// The key of the project
    #[arg(long, conflicts_with = "user")]
    key: bool,
    /// The user's session of the project
    #[arg(long)]
    user: bool,
}

impl Context {
    /// The store of secrets.
    pub(crate) fn secrets(&self) -> anyhow::Result<Secrets> {
        Ok(Secrets::of(&self.config, &self.data_dir()?))
    }

    /// The URL of the project, for what concerns one.
    pub(crate) fn project_url(&self) -> anyhow::Result<String> {
        self.config.backend.url.clone().ok_or_else(|| {
            UserError::new(Exit::Usage, "which project?")
                .help("set backend.url (ROWCALL__BACKEND__URL) to its URL, such as https://abc.supabase.co")
                .into()
        })
    }
}

impl Login {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let secrets = context.secrets()?;
        if self.list {
            return list(&secrets, self.json);
        }
        if let Some(name) = &self.switch {
            return switch(&secrets, name);
        }
        if self.key {
            let url = context.project_url()?;
            let key = ask_hidden("anon or publishable key: ")?;
            if crate::daemon::is_service_key(&key) {
                return Err(UserError::new(Exit::Usage, "this is a service key, which row level security does not hold back")
                    .help("keep the anon or publishable key; a service key belongs into backend.service_key, if anywhere")
                    .into());
            }
            return keep(
                &secrets,
                &Name::Key(url.clone()),
                &key,
                &format!("the key of {url}"),
            );
        }
        if let Some(email) = &self.user {
            return sign_in(context, &secrets, email).await;
        }
        let token = if self.token {
            given_token()?
        } else {
            self.through_browser(context).await?
        };
        self.log_in(context, &secrets, token).await
    }

    async fn through_browser(&self, context: &Context) -> anyhow::Result<SecretString> {
        let backend = &context.config.backend;
        let user = std::env::var("USER").unwrap_or_else(|_| "rowcall".to_owned());
        let name = format!(
            "cli_{user}@{}_{}",
            host_name(),
            SystemClock.now().as_second()
        );
        let mut attempt = LoginAttempt::begin(
            &backend.management_url,
            &backend.dashboard_url,
            &name,
            RandomIds.uuid(),
        )?;
        output::note("Log in to Supabase on this page, and type the code that it shows:");
        output::note("");
        output::note(format_args!("  {}", attempt.page()));
        output::note("");
        if !self.no_browser {
            prompt::open_browser(attempt.page());
        }
        for left in (0..CODE_TRIES).rev() {
            let code = ask("code: ")?;
            match attempt.finish(&code).await {
                Ok(token) => return Ok(token),
                Err(error @ (LoginError::NoCode | LoginError::WrongCode)) if left > 0 => {
                    output::note(format_args!("{error}; try again"));
                }
                Err(error) => {
                    return Err(UserError::new(Exit::Failure, format!("not logged in: {error}"))
                        .code(error.code())
                        .help("begin anew with `rowcall login`, or use an access token with `rowcall login --token`")
                        .into());
                }
            }
        }
        unreachable!("the last try returns")
    }

    async fn log_in(
        self,
        context: &Context,
        secrets: &Secrets,
        token: SecretString,
    ) -> anyhow::Result<Exit> {
        let api = Management::new(&context.config.backend.management_url, token.clone())?;
        let name = match (api.profile().await, self.name) {
            (Err(error @ ManagementError::Unauthorized), _) => {
                return Err(
                    UserError::new(Exit::Failure, "Supabase does not take this token")
                        .code(error.code())
                        .help("make a new one under Account, Access Tokens in the dashboard")
                        .into(),
                );
            }
            (_, Some(name)) => name,
            // Whose it is is good to know, no more.
            (Ok(profile), None) => {
                let known = profile.primary_email.or(profile.username);
                known.unwrap_or_else(|| "default".to_owned())
            }
            (Err(_), None) => "default".to_owned(),
        };
        let name = output::shorten(&name, 200);
        let done = keep(
            secrets,
            &Name::Account(name.clone()),
            &token,
            &format!("logged in as {name}"),
        )?;
        secrets.use_account(&name)?;
        Ok(done)
    }
}

impl Logout {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let secrets = context.secrets()?;
        let (name, what) = if self.key {
            let url = context.project_url()?;
            (Name::Key(url.clone()), format!("the key of {url}"))
        } else if self.user {
            let url = context.project_url()?;
            (Name::Session(url.clone()), format!("the session at {url}"))
        } else {
            let account = match self.account {
                Some(account) => account,
                None => secrets
                    .accounts()?
                    .1
                    .ok_or_else(|| nobody().help("`rowcall login --list` shows the accounts"))?,
            };
            (Name::Account(account.clone()), format!("account {account}"))
        };
        if !secrets.remove(&name)? {
            return Err(UserError::new(Exit::NotFound, format!("{what} is not kept here")).into());
        }
        output::note(format_args!("forgotten: {what}"));
        Ok(Exit::Success)
    }
}

fn nobody() -> UserError {
    UserError::of(Exit::NotFound, &LoginError::Nobody)
}

fn list(secrets: &Secrets, as_json: bool) -> anyhow::Result<Exit> {
    let (names, used) = secrets.accounts()?;
    let is_used = |name: &String| used.as_ref() == Some(name);
    if as_json {
        let accounts: Vec<_> = names
            .iter()
            .map(|name| json!({ "name": name, "used": is_used(name) }))
            .collect();
        output::json(&accounts)?;
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = names
        .iter()
        .map(|name| {
            let used = if is_used(name) { "yes" } else { "" };
            [output::shorten(name, 100), used.to_owned()]
        })
        .collect();
    output::table(["ACCOUNT", "USED"], &rows)?;
    Ok(Exit::Success)
}

fn switch(secrets: &Secrets, name: &str) -> anyhow::Result<Exit> {
    if !secrets.accounts()?.0.iter().any(|known| known == name) {
        return Err(
            UserError::new(Exit::NotFound, format!("account {name} is not logged in"))
                .help("`rowcall login --list` shows the accounts, `rowcall login` adds one")
                .into(),
        );
    }
    secrets.use_account(name)?;
    output::note(format_args!("account {name} is used from now on"));
    Ok(Exit::Success)
}

fn keep(secrets: &Secrets, name: &Name, secret: &SecretString, what: &str) -> anyhow::Result<Exit> {
    let place = match secrets.put(name, secret)? {
        Kept::Keyring => "in the system's keyring".to_owned(),
        Kept::File => IN_FILE.to_owned(),
        Kept::FileInstead { why } => {
            format!("{IN_FILE}, because the system's keyring cannot be used ({why})")
        }
    };
    output::note(format_args!("{what}; kept {place}"));
    Ok(Exit::Success)
}

fn given_token() -> anyhow::Result<SecretString> {
    let token = match std::env::var("SUPABASE_ACCESS_TOKEN") {
        Ok(token) if !token.is_empty() => SecretString::from(token.trim().to_owned()),
        _ => ask_hidden("access token: ")?,
    };
    if !is_token(token.expose_secret()) {
        return Err(UserError::new(
            Exit::Usage,
            "this is no access token of Supabase: it looks like sbp_ and 40 digits",
        )
        .help("make one under Account, Access Tokens in the dashboard")
        .into());
    }
    Ok(token)
}

async fn sign_in(context: &Context, secrets: &Secrets, email: &str) -> anyhow::Result<Exit> {
    let url = context.project_url()?;
    let (project, _) = context.project().await?;
    let key = project.anon_key.as_ref().unwrap_or(&project.key);
    let password = ask_hidden("password: ")?;
    let tokens = rowcall_backend::supabase::sign_in(&url, key, email, &password)
        .await
        .map_err(|error| UserError::of(Exit::Failure, &error))?;
    let name = Name::Session(url.clone());
    keep(
        secrets,
        &name,
        &session_text(&tokens),
        &format!("signed in to {url} as {email}"),
    )
}
