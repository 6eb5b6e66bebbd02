//! What is started, and which port it is given.

use std::{collections::BTreeMap, path::PathBuf};

use rowcall_core::{App, AppId, Command, manifest::Restart};

/// The published default of an app's port.
pub const DEFAULT_PORT: u16 = 8080;

/// The place of the port in arguments and variables.
const PLACEHOLDER: &str = "{port}";

/// Which port an app wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortWish {
    /// The port.
    pub port: u16,
    /// Whether the configuration names it; otherwise it is the default, and the app may not listen at all.
    pub named: bool,
    /// Whether another one will do: not when it stands in the arguments.
    pub movable: bool,
}

/// An app's program, ready to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppLaunch {
    /// The app.
    pub app: AppId,
    /// Its program.
    pub command: Command,
    /// The port it wants.
    pub port: PortWish,
    /// The path that answers when it is healthy.
    pub health_path: Option<String>,
    /// When it is started again.
    pub restart: Restart,
    /// Where it runs when the configuration names no directory.
    pub directory: PathBuf,
    /// What it finds in its environment, before what its configuration says.
    pub variables: BTreeMap<String, String>,
}

impl AppLaunch {
    /// The program of an app; `None` when it has none.
    pub fn of(app: &App, directory: PathBuf, variables: BTreeMap<String, String>) -> Option<Self> {
        let command = app.command.clone()?;
        Some(Self {
            app: app.name.clone(),
            port: wish(app, &command),
            command,
            health_path: app.health_path.clone(),
            restart: app.restart,
            directory,
            variables,
        })
    }

    /// The command with its port put in.
    pub(super) fn with_port(&self, port: u16) -> Command {
        let text = port.to_string();
        let mut command = self.command.clone();
        for arg in &mut command.args {
            if arg.contains(PLACEHOLDER) {
                *arg = arg.replace(PLACEHOLDER, &text);
            }
        }
        for value in command.env.values_mut() {
            if value.contains(PLACEHOLDER) {
                *value = value.replace(PLACEHOLDER, &text);
            }
        }
        command
    }

    /// What the program finds about its port.
    pub(super) fn port_variables(port: u16) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("RTX_PORT".to_owned(), port.to_string()),
            // Most programs know only this one.
            ("PORT".to_owned(), port.to_string()),
        ])
    }
}

/// In the order of the original: arguments, `port`, `env.PORT`, `home_url`, 8080.
fn wish(app: &App, command: &Command) -> PortWish {
    let named = |port, movable| PortWish {
        port,
        named: true,
        movable,
    };
    if let Some(port) = in_arguments(&command.args) {
        return named(port, false);
    }
    let in_env = || {
        ["RTX_PORT", "PORT"]
            .iter()
            .find_map(|name| command.env.get(*name)?.parse().ok())
    };
    if let Some(port) = app.port {
        return named(port, in_env().is_none());
    }
    if let Some(port) = in_env() {
        return named(port, false);
    }
    if let Some(port) = app.home_url.as_deref().and_then(in_url) {
        return named(port, true);
    }
    let uses = command.args.iter().any(|arg| arg.contains(PLACEHOLDER));
    PortWish {
        port: DEFAULT_PORT,
        named: uses || app.health_path.is_some(),
        movable: true,
    }
}

/// `-p 3000`, `--port 3000`, `--port=3000`.
fn in_arguments(args: &[String]) -> Option<u16> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = match arg.as_str() {
            "-p" | "--port" => args.next().map(String::as_str),
            other => other.strip_prefix("--port="),
        };
        if let Some(port) = value
            .and_then(|value| value.parse().ok())
            .filter(|port| *port > 0)
        {
            return Some(port);
        }
    }
    None
}

/// The port of `http://host:port/path`.
fn in_url(url: &str) -> Option<u16> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, port) = authority.rsplit_once(':')?;
    port.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish_of(config: &str) -> (u16, bool, bool) {
        let text = format!(r#"{{"name": "x", "config": {{"command": "c", {config}}}}}"#);
        let app = App::parse(&text, None).unwrap();
        let launch = AppLaunch::of(&app, "/".into(), BTreeMap::new()).unwrap();
        (launch.port.port, launch.port.named, launch.port.movable)
    }

    #[test]
    fn ports_are_found_in_the_published_order() {
        for (config, expected) in [
            (r#""args": ["-p", "3000"], "port": 1"#, (3000, true, false)),
            (r#""args": ["--port=3001"]"#, (3001, true, false)),
            (
                r#""args": ["--port", "{port}"], "port": 3002"#,
                (3002, true, true),
            ),
            (r#""port": 3003, "env": {"PORT": "9"}"#, (3003, true, false)),
            (r#""env": {"PORT": "3004"}"#, (3004, true, false)),
            (
                r#""homeUrl": "http://localhost:3005/x""#,
                (3005, true, true),
            ),
            (r#""homeUrl": "http://localhost/x""#, (8080, false, true)),
            (r#""args": []"#, (8080, false, true)),
            (r#""healthPath": "/health""#, (8080, true, true)),
        ] {
            assert_eq!(wish_of(config), expected, "{config}");
        }
    }

    #[test]
    fn the_port_is_put_where_it_is_asked_for() {
        let text = r#"{"name": "x", "config": {"command": "c", "args": ["--listen=:{port}"], "env": {"A": "{port}"}}}"#;
        let app = App::parse(text, None).unwrap();
        let launch = AppLaunch::of(&app, "/".into(), BTreeMap::new()).unwrap();
        let command = launch.with_port(81);
        assert_eq!(command.args, ["--listen=:81"]);
        assert_eq!(command.env["A"], "81");
    }
}
