//! `secrets.json`.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::SecretError;

pub(super) const NAME: &str = "secrets.json";

/// The largest file read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// What the file holds. A secret without a value is in the keyring.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The account in use.
    #[serde(default)]
    pub(super) account: Option<String>,
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, Option<String>>,
}

pub(super) fn read(path: &Path) -> Result<Kept, SecretError> {
    let failed = |problem: String| SecretError::File {
        path: path.to_path_buf(),
        problem,
    };
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(failed(format!("cannot be read: {error}"))),
    };
    if found.permissions().mode() & 0o077 != 0 {
        let why = "others on this machine can read it, so its secrets may be known to them; `chmod 600` it, and renew them if in doubt";
        return Err(failed(why.to_owned()));
    }
    if found.len() > MAX_BYTES {
        return Err(failed("is too large to be a file of secrets".to_owned()));
    }
    let text = fs::read(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    // What stands there must not be part of the message.
    serde_json::from_slice(&text)
        .map_err(|_| failed("is not what rowcall writes; move it away and log in again".to_owned()))
}

/// Changes the file: written whole beside it and put in its place, under a lock.
pub(super) fn change(path: &Path, change: impl FnOnce(&mut Kept)) -> Result<(), SecretError> {
    let failed = |error: std::io::Error| SecretError::File {
        path: path.to_path_buf(),
        problem: format!("cannot be written: {error}"),
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(path.with_extension("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let mut kept = read(path)?;
    change(&mut kept);
    let text = serde_json::to_vec_pretty(&kept).map_err(|error| failed(error.into()))?;
    let temporary = path.with_extension("new");
    // One that was left behind may have other rights.
    let _ = fs::remove_file(&temporary);
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}
