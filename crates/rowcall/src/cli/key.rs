//! `rowcall key`

use clap::Subcommand;
use jiff::Timestamp;
use rowcall_core::Clock as _;
use rowcall_engine::store::{KeyTaken, NewKey, Store, StoreError};

use super::Context;
use crate::{
    api::{digest, secret},
    exit::{Exit, UserError},
    output,
    system::SystemClock,
};

/// What made keys begin with.
const PREFIX: &str = "rck_";

/// The shortest key that may be brought along. Hashes of short keys could be guessed.
const MIN_KEY: usize = 16;

/// The longest, in bytes.
const MAX_KEY: usize = 512;

/// The longest name, in bytes.
const MAX_NAME: usize = 100;

/// How many characters of a key are shown, to tell it from others.
const HINT_CHARS: usize = 8;

/// Developer keys: whoever has one may use all of the SDK's routes.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key and print it, once
    Add {
        /// Its name
        name: String,
        /// Take this key instead of making one; - reads it from standard input
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Let it also administer this machine through /rowcall/v1
        #[arg(long)]
        admin: bool,
    },
    /// List the keys, never the keys themselves
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Refuse a key from now on
    Revoke {
        /// Its name
        name: String,
    },
}

/// Why a key was not added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// There is one of this name.
    #[error("there is a key {0} already: revoke it first, or choose another name")]
    NameTaken(String),
    /// It was added before.
    #[error("this key was added before, perhaps under another name; a revoked key stays refused")]
    KeyTaken,
    /// It is too short or too long, or holds what a header cannot.
    #[error("a key must be {MIN_KEY} to {MAX_KEY} printable ASCII characters without spaces")]
    Unusable,
    /// The name is empty or too long.
    #[error("a key's name must be 1 to {MAX_NAME} bytes without control characters")]
    Name,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NameTaken(_) | Self::KeyTaken => "key-taken",
            Self::Unusable | Self::Name => "key-invalid",
            Self::Store(error) => error.code(),
        }
    }
}

/// Adds a key, made here unless one is given, and returns it.
pub(crate) fn add_key(
    store: &Store,
    name: &str,
    key: Option<String>,
    admin: bool,
    now: Timestamp,
) -> Result<String, KeyError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(KeyError::Name);
    }
    let key = key.unwrap_or_else(|| secret(PREFIX));
    let printable = key.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || !(MIN_KEY..=MAX_KEY).contains(&key.len()) {
        return Err(KeyError::Unusable);
    }
    let new = NewKey {
        name,
        hash: &hex::encode(digest(&key)),
        hint: &key[..HINT_CHARS],
        admin,
    };
    match store.add_key(new, now)? {
        Ok(()) => Ok(key),
        Err(KeyTaken::Name) => Err(KeyError::NameTaken(name.to_owned())),
        Err(KeyTaken::Key) => Err(KeyError::KeyTaken),
    }
}

impl Key {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let store = context.store()?;
        let now = SystemClock.now();
        match self {
            Self::Add { name, key, admin } => {
                let key = match key.as_deref() {
                    Some("-") => Some(std::io::read_to_string(std::io::stdin())?.trim().to_owned()),
                    _ => key,
                };
                let made = key.is_none();
                let key = add_key(&store, &name, key, admin, now)
                    .map_err(|error| UserError::of(Exit::Failure, &error))?;
                if made {
                    output::line(&key)?;
                    output::note("it is not stored and cannot be shown again");
                } else {
                    output::note(format_args!("added {name}"));
                }
            }
            Self::List { json } => {
                let keys = store.keys()?;
                if json {
                    output::json(&keys)?;
                    return Ok(Exit::Success);
                }
                let rows: Vec<_> = keys
                    .iter()
                    .map(|key| {
                        let state = match (key.revoked_at, key.admin) {
                            (Some(at), _) => format!("revoked {at:.0}"),
                            (None, true) => "valid, may administer".to_owned(),
                            (None, false) => "valid".to_owned(),
                        };
                        let used = key
                            .last_used_at
                            .map_or_else(|| "never".to_owned(), |at| format!("{at:.0}"));
                        [
                            output::shorten(&key.name, 40),
                            format!("{}…", key.hint),
                            format!("{:.0}", key.created_at),
                            used,
                            state,
                        ]
                    })
                    .collect();
                output::table(["NAME", "KEY", "ADDED", "LAST USED", "STATE"], &rows)?;
            }
            Self::Revoke { name } => {
                if !store.revoke_key(&name, now)? {
                    return Err(UserError::new(
                        Exit::NotFound,
                        format!("there is no valid key {name}"),
                    )
                    .help("`rowcall key list` shows them")
                    .into());
                }
                output::note(format_args!("{name} is refused from now on"));
            }
        }
        Ok(Exit::Success)
    }
}

#[cfg(test)]
mod tests {
    use rowcall_engine::store::StoreOptions;

    use super::*;

    #[test]
    fn keys_are_kept_as_hashes_and_stay_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let add = |name: &str, key: Option<&str>| {
            add_key(&store, name, key.map(str::to_owned), false, now)
        };
        let key = add("a", None).unwrap();
        assert!(key.starts_with(PREFIX) && key.len() > 60);
        assert!(matches!(add("a", None), Err(KeyError::NameTaken(_))));
        assert!(matches!(add("b", Some(&key)), Err(KeyError::KeyTaken)));
        assert!(store.revoke_key("a", now).unwrap());
        assert!(
            matches!(add("b", Some(&key)), Err(KeyError::KeyTaken)),
            "it stays refused"
        );
        assert!(add("a", None).is_ok(), "the name is free again");
        for bad in ["short", "with space in it 1234", "é123456789012345678"] {
            assert!(
                matches!(add("c", Some(bad)), Err(KeyError::Unusable)),
                "{bad}"
            );
        }
        drop(store);
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let found = bytes
                .windows(key.len())
                .any(|window| window == key.as_bytes());
            assert!(!found, "the key itself is nowhere");
        }
    }
}
