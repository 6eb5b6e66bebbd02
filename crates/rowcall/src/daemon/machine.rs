//! Who this machine is.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, bail};
use rowcall_core::MachineId;

use crate::config::Config;

/// The file that keeps the id.
const FILE: &str = "machine-id";

/// Characters of the host name that go into an id, for people who read `locked_by`.
const MAX_HOST_CHARS: usize = 24;

/// The configured id, or the one kept in the data directory.
pub(super) fn named(config: &Config, data_dir: &Path) -> anyhow::Result<MachineId> {
    match &config.machine.id {
        Some(id) => Ok(id.clone()),
        None => machine_id(data_dir),
    }
}

/// The id kept in the data directory, made at first: the host's name and eight random hexadecimal digits.
pub fn machine_id(data_dir: &Path) -> anyhow::Result<MachineId> {
    let path = data_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            return MachineId::new(text.trim()).with_context(|| {
                format!(
                    "{} holds no machine id: delete it to make a new one",
                    path.display()
                )
            });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => bail!("cannot read {}: {error}", path.display()),
    }
    let id = fresh(&host_name());
    let mut options = fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o644).open(&path) {
        Ok(mut file) => {
            writeln!(file, "{id}").with_context(|| format!("cannot write {}", path.display()))?;
            Ok(id)
        }
        // Another command was quicker: its id counts.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => machine_id(data_dir),
        Err(error) => bail!("cannot write {}: {error}", path.display()),
    }
}

fn fresh(host: &str) -> MachineId {
    let host: String = host
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(MAX_HOST_CHARS)
        .collect();
    let host = if host.is_empty() {
        "machine".to_owned()
    } else {
        host
    };
    MachineId::new(format!("{host}-{:08x}", rand::random::<u32>()))
        .expect("letters, digits and dashes are an id")
}

/// The host's name, as far as the system tells.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = machine_id(dir.path()).unwrap();
        assert_eq!(machine_id(dir.path()).unwrap(), first);
        fs::write(dir.path().join(FILE), "\u{7}").unwrap();
        assert!(
            machine_id(dir.path())
                .unwrap_err()
                .to_string()
                .contains("delete it")
        );
    }

    #[test]
    fn hostile_host_names_become_ids() {
        assert!(fresh("a\nb%;\u{202e}").as_str().starts_with("ab-"));
        assert!(fresh("").as_str().starts_with("machine-"));
    }
}
