//! The keyring of the system: Keychain, Credential Manager, or the Secret Service.

use std::{fmt, sync::mpsc, thread, time::Duration};

use keyring::v1::{Entry, Error};
use secrecy::{ExposeSecret as _, SecretString};

use super::SecretError;

/// The service under which all entries stand.
const SERVICE: &str = "rowcall";

/// How long the keyring may take. A locked one asks a person, who may not be there.
const LIMIT: Duration = Duration::from_secs(20);

/// A keyring, or a double of one.
pub(super) trait Keyring: fmt::Debug + Send + Sync {
    fn get(&self, entry: &str) -> Result<Option<SecretString>, SecretError>;
    fn put(&self, entry: &str, secret: &SecretString) -> Result<(), SecretError>;
    fn remove(&self, entry: &str) -> Result<(), SecretError>;
}

/// That of the system.
#[derive(Debug)]
pub(super) struct System;

impl Keyring for System {
    fn get(&self, entry: &str) -> Result<Option<SecretString>, SecretError> {
        let entry = entry.to_owned();
        bounded(LIMIT, move || {
            match Entry::new(SERVICE, &entry)?.get_password() {
                Ok(secret) => Ok(Some(secret.into())),
                Err(Error::NoEntry) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn put(&self, entry: &str, secret: &SecretString) -> Result<(), SecretError> {
        let (entry, secret) = (entry.to_owned(), secret.clone());
        bounded(LIMIT, move || {
            Entry::new(SERVICE, &entry)?.set_password(secret.expose_secret())
        })
    }

    fn remove(&self, entry: &str) -> Result<(), SecretError> {
        let entry = entry.to_owned();
        bounded(LIMIT, move || {
            match Entry::new(SERVICE, &entry)?.delete_credential() {
                Ok(()) | Err(Error::NoEntry) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }
}

/// On a thread of its own: the keyring blocks, and may do so for ever.
fn bounded<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, SecretError> {
    let (sender, receiver) = mpsc::channel();
    let started = thread::Builder::new()
        .name("keyring".to_owned())
        .spawn(move || {
            // Nobody waits any more when this fails.
            let _ = sender.send(work());
        });
    started.map_err(|error| SecretError::Keyring(error.to_string()))?;
    match receiver.recv_timeout(limit) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(SecretError::Keyring(error.to_string())),
        Err(_) => Err(SecretError::Keyring(format!(
            "it did not answer within {limit:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_that_waits_for_a_person_is_given_up() {
        // Nobody ever unlocks it: the sender lives as long as the test.
        let (_person, unlocked) = mpsc::channel::<()>();
        let waiting = bounded(Duration::from_millis(20), move || {
            let _ = unlocked.recv();
            Ok(())
        });
        let error = waiting.unwrap_err().to_string();
        assert!(error.contains("did not answer within 20ms"), "{error}");
    }
}
