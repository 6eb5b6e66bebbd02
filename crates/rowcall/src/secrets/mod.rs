//! Where tokens and keys are kept: the keyring of the system, or a file that only its owner can read.
//!
//! Which names exist is written in `secrets.json` in the data directory (mode 0600); the values stand there too where there is
//! no keyring. Nothing here reaches a log, a command line or a database.

mod file;
mod keyring;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};

use self::keyring::Keyring;
use crate::config::{Config, SecretPlace};

/// What a secret is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// The access token of a Supabase account.
    Account(String),
    /// The anon or publishable key of a project.
    Key(String),
    /// The tokens of a user of a project.
    Session(String),
}

impl Name {
    fn text(&self) -> String {
        match self {
            Self::Account(name) => format!("{ACCOUNT}{name}"),
            Self::Key(url) => format!("key:{}", project(url)),
            Self::Session(url) => format!("session:{}", project(url)),
        }
    }
}

/// Before the names of accounts.
const ACCOUNT: &str = "account:";

/// One project has one name, however its URL is written.
fn project(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// Why a secret cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file.
    #[error("{path}: {problem}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The keyring.
    #[error(
        "the keyring of the system cannot be used: {0}; unlock it, or log in again with `secrets = \"file\"`, which keeps \
         secrets in a file that only you can read"
    )]
    Keyring(String),
}

impl SecretError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "secret-file",
            Self::Keyring(_) => "secret-keyring",
        }
    }

    /// What is wrong, without what to do about it.
    fn reason(&self) -> &str {
        match self {
            Self::File { problem, .. } => problem,
            Self::Keyring(reason) => reason,
        }
    }
}

/// Where a secret went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// To the keyring of the system.
    Keyring,
    /// To the file, as the configuration says.
    File,
    /// To the file, because the keyring could not be used.
    FileInstead {
        /// Why not.
        why: String,
    },
}

/// The store of secrets of one data directory.
#[derive(Clone, Debug)]
pub struct Secrets {
    path: PathBuf,
    place: SecretPlace,
    keyring: Arc<dyn Keyring>,
}

impl Secrets {
    /// The store of the configuration's data directory.
    pub fn of(config: &Config, data_dir: &Path) -> Self {
        Self {
            path: data_dir.join(file::NAME),
            place: config.secrets,
            keyring: Arc::new(keyring::System),
        }
    }

    /// Reads a secret. May wait for the keyring: not for async code.
    pub fn get(&self, name: &Name) -> Result<Option<SecretString>, SecretError> {
        let kept = file::read(&self.path)?;
        match kept.secrets.get(&name.text()) {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value.clone().into())),
            Some(None) => self.keyring.get(&self.entry(name)),
        }
    }

    /// Keeps a secret; says where. A keyring that is locked or absent is no reason to lose it: then it goes to the file, unless
    /// the configuration wants the keyring and nothing else.
    pub fn put(&self, name: &Name, secret: &SecretString) -> Result<Kept, SecretError> {
        let done = match self.place {
            SecretPlace::File => Kept::File,
            SecretPlace::Keyring => {
                self.keyring.put(&self.entry(name), secret)?;
                Kept::Keyring
            }
            SecretPlace::Auto => match self.keyring.put(&self.entry(name), secret) {
                Ok(()) => Kept::Keyring,
                Err(error) => Kept::FileInstead {
                    why: error.reason().to_owned(),
                },
            },
        };
        file::change(&self.path, |kept| {
            let value = (done != Kept::Keyring).then(|| secret.expose_secret().to_owned());
            kept.secrets.insert(name.text(), value);
        })?;
        Ok(done)
    }

    /// Forgets a secret; says whether there was one.
    pub fn remove(&self, name: &Name) -> Result<bool, SecretError> {
        let mut found = None;
        file::change(&self.path, |kept| {
            found = kept.secrets.remove(&name.text());
            if let Name::Account(account) = name
                && kept.account.as_ref() == Some(account)
            {
                kept.account = None;
            }
        })?;
        if found == Some(None) {
            self.keyring.remove(&self.entry(name))?;
        }
        Ok(found.is_some())
    }

    /// The names of the accounts, sorted, and the one that is used.
    pub fn accounts(&self) -> Result<(Vec<String>, Option<String>), SecretError> {
        let kept = file::read(&self.path)?;
        let names = kept
            .secrets
            .keys()
            .filter_map(|name| name.strip_prefix(ACCOUNT));
        Ok((names.map(str::to_owned).collect(), kept.account))
    }

    /// Uses this account from now on.
    pub fn use_account(&self, account: &str) -> Result<(), SecretError> {
        file::change(&self.path, |kept| kept.account = Some(account.to_owned()))
    }

    /// The keyring's name of a secret: data directories do not share them.
    fn entry(&self, name: &Name) -> String {
        format!("{} {}", name.text(), self.path.display())
    }
}
