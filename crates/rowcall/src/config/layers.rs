//! Merging the layers, and errors that say where a value came from.

use std::path::{Path, PathBuf};

use serde::de::IntoDeserializer as _;
use toml::{Table, Value};

use super::{CONFIG_FILE, Config, aimq};

/// The prefix of environment variables that set configuration keys; `__` separates the levels.
const ENV_PREFIX: &str = "ROWCALL__";

/// The largest configuration file read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{path} is larger than {MAX_CONFIG_BYTES} bytes: is it the right file?", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {source}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: toml::de::Error,
    },
    /// A key or value is wrong.
    #[error("{origin}: {key}: {problem}")]
    Value {
        /// The file or the environment variable.
        origin: String,
        /// The key, dotted.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A value is out of its bounds.
    #[error("{key}: {problem}")]
    Invalid {
        /// The key, dotted.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Neither a home directory nor `--data-dir`.
    #[error("no home directory for the data: set HOME or pass --data-dir")]
    NoHome,
}

impl ConfigError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::TooLarge { .. } | Self::Syntax { .. } => "config-file",
            Self::Value { .. } | Self::Invalid { .. } => "config-value",
            Self::NoHome => "config-no-home",
        }
    }
}

pub(super) fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let path = file.map_or_else(|| PathBuf::from(CONFIG_FILE), Path::to_path_buf);
    let mut table = read(&path, file.is_some())?;
    let mut from_env: Vec<(String, String)> = Vec::new();
    let env: Vec<(String, String)> = env.into_iter().collect();
    for (name, text) in &env {
        if let Some((key, value)) = aimq::setting(name, text) {
            insert(&mut table, key, value);
            from_env.push((key.to_owned(), name.clone()));
        }
    }
    for (name, text) in &env {
        let Some(key) = name.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        let key = key.to_ascii_lowercase().replace("__", ".");
        insert(&mut table, &key, scalar(text));
        from_env.push((key, name.clone()));
    }
    from_env.sort();
    let mut config: Config = serde_path_to_error::deserialize(
        Value::Table(table).into_deserializer(),
    )
    .map_err(|error| {
        let key = error.path().to_string();
        let text = error.inner().to_string();
        let text = text.lines().next().unwrap_or_default().to_owned();
        let unknown = unknown_field(&text).map(|field| match key.as_str() {
            "." => field.to_owned(),
            parent if parent.ends_with(field) => parent.to_owned(),
            parent => format!("{parent}.{field}"),
        });
        let key = unknown.unwrap_or(key);
        let origin = from_env.iter().find(|(set, _)| *set == key).map_or_else(
            || path.display().to_string(),
            |(_, name)| format!("environment variable {name}"),
        );
        ConfigError::Value {
            origin,
            problem: suggest(&text),
            key,
        }
    })?;
    config.engine.validate()?;
    config.backend.validate()?;
    config.worker.validate()?;
    let texts = env
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    config.aimq_database = aimq::database(texts);
    Ok(config)
}

fn read(path: &Path, required: bool) -> Result<Table, ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.to_path_buf(),
        source,
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
            return Ok(Table::new());
        }
        Err(error) => return Err(read(error)),
        Ok(found) if found.len() > MAX_CONFIG_BYTES => {
            return Err(ConfigError::TooLarge {
                path: path.to_path_buf(),
            });
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    text.parse().map_err(|source| ConfigError::Syntax {
        path: path.to_path_buf(),
        source,
    })
}

/// An environment variable holds a number, a flag, or else a text.
fn scalar(text: &str) -> Value {
    if let Ok(flag) = text.parse::<bool>() {
        Value::Boolean(flag)
    } else if let Ok(number) = text.parse::<i64>() {
        Value::Integer(number)
    } else {
        Value::String(text.to_owned())
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((head, rest)) => {
            let below = table
                .entry(head)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(below) = below {
                insert(below, rest, value);
            } else {
                // Not a section: the deserializer will say so, with the key.
                *below = value;
            }
        }
    }
}

fn unknown_field(text: &str) -> Option<&str> {
    text.strip_prefix("unknown field `")?.split('`').next()
}

/// Adds the nearest known key to serde's "unknown field" message.
fn suggest(text: &str) -> String {
    let Some(unknown) = unknown_field(text) else {
        return text.to_owned();
    };
    let known: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(candidate, unknown), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, candidate)) => format!("unknown key; did you mean \"{candidate}\"?"),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}
