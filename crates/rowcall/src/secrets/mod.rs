//! Where tokens and keys are kept: the keyring of the system, or a file that only its owner can read.
//!
//! Which names exist is written in `secrets.json` in the data directory (mode 0600); the values stand there too where there is
//! no keyring. Nothing here reaches a log, a command line or a database.

mod file;
mod keyring;

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

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
        "the keyring of the system cannot be used: {0}; `secrets = \"file\"` keeps secrets in a file instead"
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
}

/// The store of secrets of one data directory.
#[derive(Clone, Debug)]
pub struct Secrets {
    path: PathBuf,
    place: SecretPlace,
}

impl Secrets {
    /// The store of the configuration's data directory.
    pub fn of(config: &Config, data_dir: &Path) -> Self {
        Self {
            path: data_dir.join(file::NAME),
            place: config.secrets,
        }
    }

    /// Reads a secret. May wait for the keyring: not for async code.
    pub fn get(&self, name: &Name) -> Result<Option<SecretString>, SecretError> {
        let kept = file::read(&self.path)?;
        match kept.secrets.get(&name.text()) {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value.clone().into())),
            Some(None) => keyring::get(&self.entry(name)),
        }
    }

    /// Keeps a secret; says whether it went to the keyring.
    pub fn put(&self, name: &Name, secret: &SecretString) -> Result<bool, SecretError> {
        let in_keyring = match self.place {
            SecretPlace::File => false,
            SecretPlace::Keyring => {
                keyring::put(&self.entry(name), secret)?;
                true
            }
            SecretPlace::Auto => keyring::put(&self.entry(name), secret).is_ok(),
        };
        file::change(&self.path, |kept| {
            let value = (!in_keyring).then(|| secret.expose_secret().to_owned());
            kept.secrets.insert(name.text(), value);
        })?;
        Ok(in_keyring)
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
            keyring::remove(&self.entry(name))?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn store(dir: &Path) -> Secrets {
        Secrets {
            path: dir.join(file::NAME),
            place: SecretPlace::File,
        }
    }

    #[test]
    fn secrets_are_kept_in_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = store(dir.path());
        let key = Name::Key("https://x.supabase.co/".to_owned());
        assert!(secrets.get(&key).unwrap().is_none());
        assert!(
            !secrets
                .put(&key, &"sb_publishable_1".to_owned().into())
                .unwrap()
        );
        let same = Name::Key("https://x.supabase.co".to_owned());
        assert_eq!(
            secrets.get(&same).unwrap().unwrap().expose_secret(),
            "sb_publishable_1"
        );
        let mode = std::fs::metadata(&secrets.path)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{secrets:?}").contains("sb_publishable_1"));
        assert!(secrets.remove(&key).unwrap());
        assert!(!secrets.remove(&key).unwrap());
    }

    #[test]
    fn several_accounts_one_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = store(dir.path());
        for name in ["grace", "ada"] {
            let account = Name::Account(name.to_owned());
            secrets.put(&account, &"sbp_x".to_owned().into()).unwrap();
            secrets.use_account(name).unwrap();
        }
        let (names, used) = secrets.accounts().unwrap();
        assert_eq!(names, ["ada", "grace"]);
        assert_eq!(used.as_deref(), Some("ada"));
        secrets.remove(&Name::Account("ada".to_owned())).unwrap();
        assert_eq!(
            secrets.accounts().unwrap(),
            (vec!["grace".to_owned()], None)
        );
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_broken_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = store(dir.path());
        let key = Name::Key("x".to_owned());
        secrets.put(&key, &"v".to_owned().into()).unwrap();
        std::fs::set_permissions(&secrets.path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = secrets.get(&key).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&secrets.path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&secrets.path, "{").unwrap();
        assert!(secrets.get(&key).is_err());
    }
}
