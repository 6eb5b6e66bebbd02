//! Relative directories in a manifest mean the manifest's own place, wherever the daemon runs.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value};

/// The spellings of the key.
const KEYS: [&str; 2] = ["working_dir", "workingDir"];

/// The manifest with absolute working directories: relative ones are below the manifest's folder, and a program without
/// one runs there.
pub(super) fn below(text: &str, file: &Path) -> anyhow::Result<String> {
    let Ok(mut manifest) = serde_json::from_str::<Value>(text) else {
        // The reader of manifests says what is wrong.
        return Ok(text.to_owned());
    };
    let folder = if file.as_os_str() == "-" {
        std::env::current_dir().context("cannot find out the working directory")?
    } else {
        let file = std::path::absolute(file)?;
        file.parent().map(Path::to_path_buf).unwrap_or_default()
    };
    if let Some(Value::Object(config)) = manifest.get_mut("config") {
        anchor(config, &folder);
    } else if let Value::Object(config) = &mut manifest {
        anchor(config, &folder);
    }
    for agent in manifest
        .get_mut("agents")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Value::Object(agent) = agent {
            anchor(agent, &folder);
        }
    }
    Ok(serde_json::to_string_pretty(&manifest)?)
}

fn anchor(program: &mut Map<String, Value>, folder: &Path) {
    for key in KEYS {
        if let Some(Value::String(dir)) = program.get_mut(key) {
            if !dir.is_empty() {
                let joined = if dir.as_str() == "." {
                    folder.to_path_buf()
                } else {
                    folder.join(dir.as_str())
                };
                *dir = joined.to_string_lossy().into_owned();
            }
            return;
        }
    }
    if program.contains_key("command") || program.contains_key("args") {
        program.insert(
            KEYS[0].to_owned(),
            Value::from(folder.to_string_lossy().into_owned()),
        );
    }
}

#[cfg(test)]
mod tests {
    use rowcall_core::{AgentKind, App};

    use super::*;

    #[test]
    fn directories_are_below_the_manifest() {
        let text = r#"{"name": "x", "config": {"command": "python", "workingDir": "src"},
            "agents": [{"id": "a", "command": "a", "working_dir": "."}, {"id": "b", "command": "b"},
                       {"id": "c", "command": "c", "working_dir": "/elsewhere"}]}"#;
        let app = App::parse(&below(text, Path::new("/apps/x/app.json")).unwrap(), None).unwrap();
        assert_eq!(
            app.command.unwrap().working_dir.unwrap(),
            Path::new("/apps/x/src")
        );
        let dirs: Vec<_> = app
            .agents
            .iter()
            .map(|agent| match &agent.kind {
                AgentKind::Process(command) => command.working_dir.clone().unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            dirs,
            [
                Path::new("/apps/x"),
                Path::new("/apps/x"),
                Path::new("/elsewhere")
            ]
        );
    }

    #[test]
    fn what_is_no_manifest_is_left_alone() {
        for text in ["{", "[]", "{\"name\": \"x\"}"] {
            assert!(below(text, Path::new("x.json")).is_ok());
        }
    }
}
