//! Reading JSON objects key by key, with errors that say where and what instead.

use serde_json::{Map, Value};

/// Why a manifest was refused; `path` names the place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{path}: {problem}")]
pub struct ManifestError {
    /// For example `config.supabase.tableActions`.
    pub path: String,
    /// What is wrong there and what would be right.
    pub problem: String,
}

impl ManifestError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        "app-manifest"
    }

    pub(super) fn at(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// How similar an unknown key must be to a known one to be offered instead.
const SUGGESTION_SIMILARITY: f64 = 0.8;

/// The members of one object. Every key is taken once; what is left at the end is unknown.
pub(super) struct Fields {
    path: String,
    members: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Reads `value` as an object whose keys are normalised to snake_case.
    pub(super) fn new(path: &str, value: Value) -> Result<Self, ManifestError> {
        let Value::Object(raw) = value else {
            return Err(ManifestError::at(
                path,
                format!("expected an object, found {}", kind(&value)),
            ));
        };
        let mut members = Map::new();
        for (key, value) in raw {
            if members.insert(snake_case(&key), value).is_some() {
                return Err(ManifestError::at(
                    join(path, &key),
                    "the key is given twice, in two spellings",
                ));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            members,
            known: Vec::new(),
        })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.members.contains_key(key)
    }

    pub(super) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Takes a member; JSON `null` counts as absent.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.members
            .shift_remove(key)
            .filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, ManifestError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(other) => Err(self.wrong(key, "a text", &other)),
        }
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, ManifestError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(key, "true or false", &other)),
        }
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        max: u32,
    ) -> Result<Option<u32>, ManifestError> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .filter(|number| (1..=max).contains(number))
                .map(Some)
                .ok_or_else(|| self.wrong(key, &format!("a whole number from 1 to {max}"), &value)),
        }
    }

    pub(super) fn list(&mut self, key: &'static str) -> Result<Vec<Value>, ManifestError> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(self.wrong(key, "a list", &other)),
        }
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Result<Vec<String>, ManifestError> {
        let path = self.path(key);
        self.list(key)?
            .into_iter()
            .enumerate()
            .map(|(index, item)| match item {
                Value::String(text) => Ok(text),
                other => Err(ManifestError::at(
                    format!("{path}[{index}]"),
                    format!("expected a text, found {}", kind(&other)),
                )),
            })
            .collect()
    }

    /// Members of an object whose keys are data (`env`, `tableActions`), with their keys as written.
    pub(super) fn map(&mut self, key: &'static str) -> Result<Map<String, Value>, ManifestError> {
        match self.take(key) {
            None => Ok(Map::new()),
            Some(Value::Object(members)) => Ok(members),
            Some(other) => Err(self.wrong(key, "an object", &other)),
        }
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<(), ManifestError> {
        let Some((unknown, _)) = self.members.iter().next() else {
            return Ok(());
        };
        let nearest = self
            .known
            .iter()
            .map(|known| (strsim::jaro_winkler(known, unknown), known))
            .filter(|(similarity, _)| *similarity >= SUGGESTION_SIMILARITY)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let help = match nearest {
            Some((_, known)) => format!("unknown key; did you mean \"{known}\"?"),
            None => format!("unknown key; known here: {}", self.known.join(", ")),
        };
        Err(ManifestError::at(join(&self.path, unknown), help))
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> ManifestError {
        let shown = match found {
            Value::Number(number) => number.to_string(),
            Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                kind(found).to_owned()
            }
        };
        ManifestError::at(
            self.path(key),
            format!("expected {expected}, found {shown}"),
        )
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// `maxConcurrentTasks` and `max_concurrent_tasks` are one key.
fn snake_case(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    for (index, c) in key.chars().enumerate() {
        if c.is_ascii_uppercase() {
            if index > 0 && !out.ends_with('_') {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}
