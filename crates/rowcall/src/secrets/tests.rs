//! A double stands in for the keyring: one of a real desktop cannot be locked from a test.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _};

use parking_lot::Mutex;

use super::*;

const TOKEN: &str = "sbp_0123456789";

/// A keyring whose door can be closed.
#[derive(Debug, Default)]
struct Double {
    entries: Mutex<BTreeMap<String, SecretString>>,
    closed: Mutex<Option<&'static str>>,
    asked: Mutex<u32>,
}

impl Double {
    fn close(&self, why: Option<&'static str>) {
        *self.closed.lock() = why;
    }

    fn enter(&self) -> Result<(), SecretError> {
        *self.asked.lock() += 1;
        match *self.closed.lock() {
            None => Ok(()),
            Some(why) => Err(SecretError::Keyring(why.to_owned())),
        }
    }
}

impl Keyring for Double {
    fn get(&self, entry: &str) -> Result<Option<SecretString>, SecretError> {
        self.enter()?;
        Ok(self.entries.lock().get(entry).cloned())
    }

    fn put(&self, entry: &str, secret: &SecretString) -> Result<(), SecretError> {
        self.enter()?;
        self.entries.lock().insert(entry.to_owned(), secret.clone());
        Ok(())
    }

    fn remove(&self, entry: &str) -> Result<(), SecretError> {
        self.enter()?;
        self.entries.lock().remove(entry);
        Ok(())
    }
}

fn store_with(dir: &Path, place: SecretPlace, keyring: &Arc<Double>) -> Secrets {
    Secrets {
        path: dir.join(file::NAME),
        place,
        keyring: Arc::clone(keyring) as _,
    }
}

fn store(dir: &Path) -> Secrets {
    store_with(dir, SecretPlace::File, &Arc::default())
}

fn account() -> Name {
    Name::Account("ada".to_owned())
}

fn read(secrets: &Secrets) -> Option<String> {
    let found = secrets.get(&account()).unwrap();
    found.map(|secret| secret.expose_secret().to_owned())
}

#[test]
fn a_keyring_that_is_there_keeps_secrets_out_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let keyring = Arc::<Double>::default();
    for place in [SecretPlace::Auto, SecretPlace::Keyring] {
        let secrets = store_with(dir.path(), place, &keyring);
        let kept = secrets.put(&account(), &TOKEN.to_owned().into()).unwrap();
        assert_eq!(kept, Kept::Keyring);
        let text = std::fs::read_to_string(&secrets.path).unwrap();
        assert!(
            text.contains("account:ada") && !text.contains(TOKEN),
            "{text}"
        );
        assert_eq!(read(&secrets).as_deref(), Some(TOKEN));
        assert!(secrets.remove(&account()).unwrap());
        assert!(keyring.entries.lock().is_empty());
        assert_eq!(read(&secrets), None);
    }
}

#[test]
fn a_keyring_that_is_locked_or_absent_leaves_the_file() {
    for why in ["the collection is locked", "no secret service is running"] {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Arc::<Double>::default();
        keyring.close(Some(why));
        let secrets = store_with(dir.path(), SecretPlace::Auto, &keyring);
        let kept = secrets.put(&account(), &TOKEN.to_owned().into()).unwrap();
        assert_eq!(
            kept,
            Kept::FileInstead {
                why: why.to_owned()
            }
        );
        let mode = std::fs::metadata(&secrets.path)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            read(&secrets).as_deref(),
            Some(TOKEN),
            "without the keyring"
        );
        // Who wants the keyring and nothing else is told.
        let strict = store_with(dir.path(), SecretPlace::Keyring, &keyring);
        let other = Name::Account("grace".to_owned());
        let error = strict.put(&other, &TOKEN.to_owned().into()).unwrap_err();
        assert_eq!(error.code(), "secret-keyring");
        assert!(strict.get(&other).unwrap().is_none(), "nothing was kept");
    }
}

#[test]
fn a_keyring_that_is_locked_later_is_named_and_the_next_log_in_goes_to_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let keyring = Arc::<Double>::default();
    let secrets = store_with(dir.path(), SecretPlace::Auto, &keyring);
    secrets.put(&account(), &TOKEN.to_owned().into()).unwrap();
    keyring.close(Some("the collection is locked"));
    let error = secrets.get(&account()).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.code(), "secret-keyring");
    assert!(
        text.contains("the collection is locked") && text.contains("log in again"),
        "{text}"
    );
    assert!(!format!("{text} {error:?} {secrets:?} {keyring:?}").contains(TOKEN));
    let again = secrets
        .put(&account(), &"sbp_new".to_owned().into())
        .unwrap();
    assert!(matches!(again, Kept::FileInstead { .. }));
    assert_eq!(read(&secrets).as_deref(), Some("sbp_new"));
    // Unlocked again, the newer one still counts.
    keyring.close(None);
    assert_eq!(read(&secrets).as_deref(), Some("sbp_new"));
}

#[test]
fn a_file_by_choice_asks_no_keyring() {
    let dir = tempfile::tempdir().unwrap();
    let keyring = Arc::<Double>::default();
    let secrets = store_with(dir.path(), SecretPlace::File, &keyring);
    let kept = secrets.put(&account(), &TOKEN.to_owned().into()).unwrap();
    assert_eq!(kept, Kept::File);
    assert_eq!(read(&secrets).as_deref(), Some(TOKEN));
    assert!(secrets.remove(&account()).unwrap());
    assert_eq!(*keyring.asked.lock(), 0);
}

#[test]
fn secrets_are_kept_in_a_private_file() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = store(dir.path());
    let key = Name::Key("https://x.supabase.co/".to_owned());
    assert!(secrets.get(&key).unwrap().is_none());
    secrets
        .put(&key, &"sb_publishable_1".to_owned().into())
        .unwrap();
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
