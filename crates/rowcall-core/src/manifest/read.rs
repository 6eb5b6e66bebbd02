//! From JSON text to an [`App`].

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    App, Handler, MAX_CONCURRENT_TASKS, MAX_MANIFEST_BYTES, ManifestError, Mode, Restart,
    Subscription,
    fields::{Fields, kind},
};
use crate::{
    agent::{AgentKind, AgentSpec, Command, DEFAULT_AGENT_TIMEOUT, Runtime},
    event::{EventKind, EventSet},
    filter::Filter,
    id::{AgentId, AppId},
    route::Trigger,
    table::TableName,
};

/// The longest time-out an agent may ask for: a day.
const MAX_AGENT_TIMEOUT_SECONDS: u32 = 24 * 60 * 60;

/// The most tasks one warm worker may hold at once.
const MAX_WORKER_CONCURRENCY: u32 = 1_000;

pub(super) fn app(text: &str, name: Option<&str>) -> Result<App, ManifestError> {
    if text.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestError::at(
            "manifest",
            format!("larger than {MAX_MANIFEST_BYTES} bytes"),
        ));
    }
    let value: Value = serde_json::from_str(text)
        .map_err(|error| ManifestError::at("manifest", format!("not valid JSON: {error}")))?;
    let mut top = Fields::new("", value)?;
    // The documents also show what stands inside `config` alone.
    let bare = !top.has("config") && (top.has("supabase") || top.has("agent_handlers"));
    let own_name = top.text("name")?;
    let name = name.map(str::to_owned).or(own_name).ok_or_else(|| {
        ManifestError::at(
            "name",
            "missing: add \"name\" to the manifest or pass --name",
        )
    })?;
    let name = AppId::new(&name).map_err(|error| ManifestError::at("name", error.to_string()))?;
    let app_type = runtime(&mut top, "app_type")?.unwrap_or(Runtime::Custom);
    let mut app = App {
        name,
        display_name: top.text("display_name")?,
        description: top.text("description")?,
        command: None,
        app_type,
        port: None,
        home_url: None,
        health_path: None,
        autostart: false,
        restart: Restart::default(),
        subscription: None,
        handlers: Vec::new(),
        agents: agents(&mut top, app_type)?,
        permissions: top.texts("permissions")?,
        notices: Vec::new(),
        named_agents: Vec::new(),
    };
    let enabled = top.flag("enabled")?.unwrap_or(true);
    if bare {
        config(&mut app, &mut top)?;
        top.finish()?;
    } else {
        if let Some(value) = top.take("config") {
            let mut fields = Fields::new("config", value)?;
            config(&mut app, &mut fields)?;
            fields.finish()?;
        }
        top.finish()?;
    }
    complete(&mut app, enabled);
    Ok(app)
}

fn config(app: &mut App, fields: &mut Fields) -> Result<(), ManifestError> {
    app.command = command(fields, app.app_type)?;
    app.port = fields
        .number("port", u32::from(u16::MAX))?
        .map(|port| u16::try_from(port).expect("the bound is u16::MAX"));
    app.home_url = fields.text("home_url")?;
    app.health_path = fields.text("health_path")?;
    app.autostart = fields.flag("autostart")?.unwrap_or(false);
    app.restart = match fields.text("restart")?.as_deref() {
        None | Some("on-failure") => Restart::OnFailure,
        Some("always") => Restart::Always,
        Some("never") => Restart::Never,
        Some(other) => {
            return Err(ManifestError::at(
                fields.path("restart"),
                format!("unknown word {other:?}: use \"on-failure\", \"always\" or \"never\""),
            ));
        }
    };
    if let Some(value) = fields.take("supabase") {
        app.subscription = Some(subscription(Fields::new(&fields.path("supabase"), value)?)?);
    }
    let path = fields.path("agentHandlers");
    for (index, value) in fields.list("agent_handlers")?.into_iter().enumerate() {
        app.handlers
            .push(handler(Fields::new(&format!("{path}[{index}]"), value)?)?);
    }
    Ok(())
}

fn command(fields: &mut Fields, runtime: Runtime) -> Result<Option<Command>, ManifestError> {
    let program = fields.text("command")?;
    let args = fields.texts("args")?;
    let working_dir = fields.text("working_dir")?.map(Into::into);
    let path = fields.path("env");
    let mut env = BTreeMap::new();
    for (key, value) in fields.map("env")? {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            other @ (Value::Null | Value::Array(_) | Value::Object(_)) => {
                let problem = format!("expected a text, found {}", kind(&other));
                return Err(ManifestError::at(format!("{path}.{key}"), problem));
            }
        };
        if key.is_empty() || key.contains(['=', '\0']) || text.contains('\0') {
            return Err(ManifestError::at(
                format!("{path}.{key}"),
                "not usable as an environment variable",
            ));
        }
        env.insert(key, text);
    }
    if program.is_none() && args.is_empty() {
        return Ok(None);
    }
    Ok(Some(Command {
        runtime,
        program,
        args,
        working_dir,
        env,
    }))
}

fn subscription(mut fields: Fields) -> Result<Subscription, ManifestError> {
    let mode = match fields.text("mode")?.as_deref() {
        None | Some("compatible") => Mode::Compatible,
        Some("custom") => Mode::Custom,
        Some(other) => {
            return Err(ManifestError::at(
                fields.path("mode"),
                format!("unknown mode {other:?}: use \"compatible\" or \"custom\""),
            ));
        }
    };
    let tables_path = fields.path("tables");
    let tables = fields
        .texts("tables")?
        .iter()
        .enumerate()
        .map(|(index, text)| table(&format!("{tables_path}[{index}]"), text))
        .collect::<Result<Vec<_>, _>>()?;
    let actions_path = fields.path("tableActions");
    let mut table_actions = BTreeMap::new();
    for (name, value) in fields.map("table_actions")? {
        let path = format!("{actions_path}.{name}");
        table_actions.insert(table(&path, &name)?, events(&path, value)?);
    }
    let filter_path = fields.path("filter");
    let filter = fields
        .text("filter")?
        .map(|text| Filter::parse(&text))
        .transpose()
        .map_err(|error| ManifestError::at(filter_path, error.to_string()))?;
    let subscription = Subscription {
        enabled: fields.flag("enabled")?.unwrap_or(true),
        mode,
        url: fields.text("url")?,
        anon_key: fields.text("anon_key")?,
        tables,
        table_actions,
        filter,
        max_concurrent_tasks: fields
            .number("max_concurrent_tasks", MAX_CONCURRENT_TASKS)?
            .unwrap_or(1),
    };
    fields.finish()?;
    Ok(subscription)
}

fn handler(mut fields: Fields) -> Result<Handler, ManifestError> {
    let table_path = fields.path("tableName");
    let name = fields
        .text("table_name")?
        .ok_or_else(|| ManifestError::at(&table_path, "missing"))?;
    let agent_path = fields.path("agentId");
    let agent = fields
        .text("agent_id")?
        .ok_or_else(|| ManifestError::at(&agent_path, "missing"))?;
    let events_path = fields.path("eventTypes");
    let handler = Handler {
        table: table(&table_path, &name)?,
        agent: AgentId::new(&agent)
            .map_err(|error| ManifestError::at(&agent_path, error.to_string()))?,
        events: fields
            .take("event_types")
            .map_or(Ok(EventSet::ALL), |value| events(&events_path, value))?,
        description: fields.text("description")?,
        trigger: match fields.text("trigger")?.as_deref() {
            None | Some("auto") => Trigger::Auto,
            Some("review") => Trigger::Review,
            Some(other) => {
                return Err(ManifestError::at(
                    fields.path("trigger"),
                    format!("unknown trigger {other:?}: use \"auto\" or \"review\""),
                ));
            }
        },
    };
    fields.finish()?;
    Ok(handler)
}

fn agents(top: &mut Fields, app_type: Runtime) -> Result<Vec<AgentSpec>, ManifestError> {
    let mut agents: Vec<AgentSpec> = Vec::new();
    for (index, value) in top.list("agents")?.into_iter().enumerate() {
        let path = format!("agents[{index}]");
        let mut fields = Fields::new(&path, value)?;
        let id = fields
            .text("id")?
            .ok_or_else(|| ManifestError::at(fields.path("id"), "missing"))?;
        let id = AgentId::new(&id)
            .map_err(|error| ManifestError::at(fields.path("id"), error.to_string()))?;
        if agents.iter().any(|agent| agent.id == id) {
            return Err(ManifestError::at(
                fields.path("id"),
                format!("agent {id} is defined twice"),
            ));
        }
        let runtime = runtime(&mut fields, "app_type")?.unwrap_or(app_type);
        let program = command(&mut fields, runtime)?;
        let url = fields.text("url")?;
        let token_env = fields.text("token_env")?;
        let seconds = fields.number("timeout_seconds", MAX_AGENT_TIMEOUT_SECONDS)?;
        let concurrency = fields.number("concurrency", MAX_WORKER_CONCURRENCY)?;
        let named = fields.text("kind")?;
        let http = named.as_deref() == Some("http") || (named.is_none() && url.is_some());
        if http {
            let kind = http_agent(&fields, url, token_env, program.is_some(), concurrency)?;
            let timeout = agent_timeout(seconds);
            agents.push(AgentSpec { id, kind, timeout });
            fields.finish()?;
            continue;
        }
        if url.is_some() || token_env.is_some() {
            return Err(ManifestError::at(
                fields.path("url"),
                "only an agent of kind \"http\" has a url and a token_env",
            ));
        }
        let command = program.ok_or_else(|| {
            ManifestError::at(fields.path("command"), "missing: an agent needs a program")
        })?;
        let kind = match named.as_deref() {
            None | Some("process") if concurrency.is_some() => {
                return Err(ManifestError::at(
                    fields.path("concurrency"),
                    "only a worker has it; a process runs one task, see max_concurrent_tasks",
                ));
            }
            None | Some("process") => AgentKind::Process(command),
            Some("worker") => AgentKind::Worker {
                command,
                concurrency: concurrency.unwrap_or(1),
            },
            Some(other) => {
                return Err(ManifestError::at(
                    fields.path("kind"),
                    format!("unknown kind {other:?}: use \"process\", \"worker\" or \"http\""),
                ));
            }
        };
        let timeout = agent_timeout(seconds);
        agents.push(AgentSpec { id, kind, timeout });
        fields.finish()?;
    }
    Ok(agents)
}

fn agent_timeout(seconds: Option<u32>) -> Duration {
    seconds.map_or(DEFAULT_AGENT_TIMEOUT, |seconds| {
        Duration::from_secs(seconds.into())
    })
}

/// An agent that is a web service.
fn http_agent(
    fields: &Fields,
    url: Option<String>,
    token_env: Option<String>,
    has_program: bool,
    concurrency: Option<u32>,
) -> Result<AgentKind, ManifestError> {
    if has_program || concurrency.is_some() {
        return Err(ManifestError::at(
            fields.path("kind"),
            "an http agent has a url, and neither a program nor a concurrency of its own",
        ));
    }
    let url = url.ok_or_else(|| ManifestError::at(fields.path("url"), "missing"))?;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(ManifestError::at(
            fields.path("url"),
            "it must begin with http:// or https://",
        ));
    }
    Ok(AgentKind::Http { url, token_env })
}

/// Fills in what the parts say about each other, and notes what is odd.
fn complete(app: &mut App, enabled: bool) {
    let handler_tables: Vec<TableName> = app
        .handlers
        .iter()
        .map(|handler| handler.table.clone())
        .collect();
    if app.subscription.is_none() && !handler_tables.is_empty() {
        app.subscription = Some(Subscription {
            enabled: true,
            mode: Mode::Compatible,
            url: None,
            anon_key: None,
            tables: Vec::new(),
            table_actions: BTreeMap::new(),
            filter: None,
            max_concurrent_tasks: 1,
        });
    }
    let Some(subscription) = app.subscription.as_mut() else {
        return;
    };
    subscription.enabled &= enabled;
    if subscription.tables.is_empty() {
        subscription.tables.extend(handler_tables.iter().cloned());
        subscription.tables.sort();
        subscription.tables.dedup();
    }
    for table in &handler_tables {
        if !subscription.tables.contains(table) {
            app.notices.push(format!(
                "agentHandlers names {table}, which is not in tables: its changes are handled all the same"
            ));
        }
    }
    for table in subscription.table_actions.keys() {
        if !subscription.tables.contains(table) && !handler_tables.contains(table) {
            app.notices.push(format!(
                "tableActions names {table}, which is not in tables: it has no effect"
            ));
        }
    }
}

fn table(path: &str, text: &str) -> Result<TableName, ManifestError> {
    text.parse()
        .map_err(|error: crate::table::TableNameError| ManifestError::at(path, error.to_string()))
}

fn events(path: &str, value: Value) -> Result<EventSet, ManifestError> {
    let Value::Array(items) = value else {
        return Err(ManifestError::at(
            path,
            format!("expected a list of events, found {}", kind(&value)),
        ));
    };
    items
        .into_iter()
        .map(|item| match item {
            Value::String(text) => text
                .parse::<EventKind>()
                .map_err(|error| ManifestError::at(path, error.to_string())),
            other => Err(ManifestError::at(
                path,
                format!("expected an event, found {}", kind(&other)),
            )),
        })
        .collect()
}

fn runtime(fields: &mut Fields, key: &'static str) -> Result<Option<Runtime>, ManifestError> {
    let Some(text) = fields.text(key)? else {
        return Ok(None);
    };
    let runtime = match text.as_str() {
        "python" => Runtime::Python,
        "node" => Runtime::Node,
        "npx" => Runtime::Npx,
        "uvx" => Runtime::Uvx,
        "custom" => Runtime::Custom,
        other => {
            return Err(ManifestError::at(
                fields.path(key),
                format!("unknown type {other:?}: use python, node, npx, uvx or custom"),
            ));
        }
    };
    Ok(Some(runtime))
}
