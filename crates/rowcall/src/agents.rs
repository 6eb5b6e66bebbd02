//! Agents within the manifests of apps: added, replaced, removed. The rest of a manifest stays as it was written.

use rowcall_core::{AgentId, App, AppId, manifest::ManifestError};
use serde_json::{Map, Value};

/// Where a manifest lists its agents.
const AGENTS: &str = "agents";

/// The manifest with an agent in it, and whether one of this id was replaced. What comes of it is a manifest that can be
/// read, or an error that says what is wrong with the agent.
pub(crate) fn with_agent(
    manifest: &str,
    app: &AppId,
    id: &AgentId,
    mut agent: Map<String, Value>,
) -> Result<(String, bool), ManifestError> {
    agent.insert("id".to_owned(), id.as_str().into());
    let mut replaced = false;
    let text = edited(manifest, app, |agents| {
        let place = agents.iter_mut().find(|one| is(one, id));
        replaced = place.is_some();
        match place {
            Some(place) => *place = Value::Object(agent),
            None => agents.push(Value::Object(agent)),
        }
    })?;
    Ok((text, replaced))
}

/// The manifest without an agent; `None` when there is none of this id.
pub(crate) fn without_agent(
    manifest: &str,
    app: &AppId,
    id: &AgentId,
) -> Result<Option<String>, ManifestError> {
    let mut removed = false;
    let text = edited(manifest, app, |agents| {
        let before = agents.len();
        agents.retain(|one| !is(one, id));
        removed = agents.len() < before;
    })?;
    Ok(removed.then_some(text))
}

fn is(agent: &Value, id: &AgentId) -> bool {
    agent["id"].as_str() == Some(id.as_str())
}

fn edited(
    manifest: &str,
    app: &AppId,
    edit: impl FnOnce(&mut Vec<Value>),
) -> Result<String, ManifestError> {
    App::parse(manifest, Some(app.as_str()))?;
    let mut top: Map<String, Value> =
        serde_json::from_str(manifest).expect("what was read as a manifest is a JSON object");
    let agents = top.entry(AGENTS).or_insert(Value::Null);
    if agents.is_null() {
        *agents = Value::Array(Vec::new());
    }
    edit(
        agents
            .as_array_mut()
            .expect("a manifest's agents are a list"),
    );
    let text = Value::Object(top).to_string();
    App::parse(&text, Some(app.as_str()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent(command: &str) -> Map<String, Value> {
        json!({ "command": command }).as_object().unwrap().clone()
    }

    #[test]
    fn agents_come_and_go_and_the_rest_stays() {
        let app = AppId::new("x").unwrap();
        let id = AgentId::new("a").unwrap();
        let first = r#"{"display_name":"X","agents":null,"permissions":["p"]}"#;
        let (text, replaced) = with_agent(first, &app, &id, agent("one")).unwrap();
        assert!(
            !replaced && text.contains(r#""permissions":["p"]"#),
            "{text}"
        );
        let (text, replaced) = with_agent(&text, &app, &id, agent("two")).unwrap();
        assert!(
            replaced && text.contains("two") && !text.contains("one"),
            "{text}"
        );
        let text = without_agent(&text, &app, &id).unwrap().unwrap();
        assert_eq!(App::parse(&text, Some("x")).unwrap().agents.len(), 0);
        assert_eq!(without_agent(&text, &app, &id).unwrap(), None);
    }

    #[test]
    fn what_is_no_agent_is_refused() {
        let app = AppId::new("x").unwrap();
        let id = AgentId::new("a").unwrap();
        assert!(with_agent("{}", &app, &id, Map::new()).is_err());
        assert!(with_agent("[]", &app, &id, agent("c")).is_err());
    }
}
