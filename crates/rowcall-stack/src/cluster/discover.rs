//! Looks for server programs that are installed on this machine.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::account::Account;
use super::command::{postgres_environment, run};
use super::install::Install;
use super::version::OLDEST_MAJOR;

/// How long `postgres --version` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(15);

/// Directories package managers put server programs in that are not on `PATH`. One `*` each.
const WELL_KNOWN: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// Where to look for installed server programs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchPaths {
    /// Directory given by the user: nothing else is looked at.
    pub explicit: Option<PathBuf>,
    /// The entries of `PATH`.
    pub path: Vec<PathBuf>,
    /// Further directories; one component may hold a `*`.
    pub well_known: Vec<String>,
}

impl SearchPaths {
    /// The entries of `path` (the value of the environment variable), then the directories that
    /// Debian, the PGDG packages, Homebrew and Postgres.app use.
    pub fn new(path: Option<&OsStr>) -> Self {
        Self {
            explicit: None,
            path: path
                .map(|path| std::env::split_paths(path).collect())
                .unwrap_or_default(),
            well_known: WELL_KNOWN.map(str::to_owned).to_vec(),
        }
    }

    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(explicit) = &self.explicit {
            return vec![explicit.clone()];
        }
        let patterns = self.well_known.iter().flat_map(|pattern| expand(pattern));
        self.path.iter().cloned().chain(patterns).collect()
    }

    /// In words, for the message that nothing was found.
    pub(crate) fn describe(&self) -> String {
        match &self.explicit {
            Some(explicit) => explicit.display().to_string(),
            None => std::iter::once("PATH")
                .chain(self.well_known.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Discovery {
    /// Usable or too old, highest version first.
    pub(crate) found: Vec<Install>,
    /// Programs that are there but could not be asked for their version, with the reason.
    pub(crate) broken: Vec<(PathBuf, String)>,
}

/// Finds the directories that hold both `postgres` and `initdb`, and asks each for its version.
///
/// The programs run as `account`, so a directory that the server's user cannot enter is not found.
pub(crate) fn discover(search: &SearchPaths, account: &Account) -> Discovery {
    let mut seen = BTreeSet::new();
    let mut discovery = Discovery::default();
    for directory in search.candidates() {
        let Some(bin_dir) = server_directory(&directory) else {
            continue;
        };
        if !seen.insert(bin_dir.clone()) {
            continue;
        }
        match version_banner(&bin_dir, account) {
            Ok(banner) => match Install::from_banner(&bin_dir, &banner) {
                Some(install) => discovery.found.push(install),
                None => discovery.broken.push((
                    bin_dir,
                    format!("unexpected answer to --version: {:?}", banner.trim()),
                )),
            },
            Err(reason) => discovery.broken.push((bin_dir, reason)),
        }
    }
    // Stable: of equal versions the one that comes first in PATH wins.
    discovery
        .found
        .sort_by_key(|install| std::cmp::Reverse(install.version));
    discovery
}

/// The directory `postgres` really lies in (links in `PATH` to a versioned directory are common).
fn server_directory(directory: &Path) -> Option<PathBuf> {
    let postgres = directory.join("postgres").canonicalize().ok()?;
    let bin_dir = postgres.parent()?;
    bin_dir.join("initdb").is_file().then(|| bin_dir.to_owned())
}

/// The output of `postgres --version`, or why there is none.
pub(crate) fn version_banner(bin_dir: &Path, account: &Account) -> Result<String, String> {
    let mut command = Command::new(bin_dir.join("postgres"));
    command.arg("--version");
    postgres_environment(&mut command);
    account.apply(&mut command);
    match run(&mut command, VERSION_LIMIT) {
        Ok(finished) if finished.status.success() => Ok(finished.stdout),
        Ok(finished) => Err(finished.last_line()),
        Err(error) => Err(error.to_string()),
    }
}

/// The finding of the search in words: versions and why none of them serves.
pub(crate) fn describe_unusable(discovery: &Discovery) -> String {
    let old = discovery.found.iter().map(|install| {
        let why = if install.version.major < OLDEST_MAJOR {
            format!("too old, {OLDEST_MAJOR} or newer is needed")
        } else {
            "not wanted here".to_owned()
        };
        format!(
            "{} in {} ({why})",
            install.version,
            install.bin_dir.display()
        )
    });
    let broken = discovery
        .broken
        .iter()
        .map(|(bin_dir, reason)| format!("{} does not run: {reason}", bin_dir.display()));
    let all: Vec<String> = old.chain(broken).collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join("; ")
    }
}

/// Directories that match a pattern with one `*` in one component, in the order of their names.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let (suffix, rest) = after.split_once('/').unwrap_or((after, ""));
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut matches: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str()
                .and_then(|name| name.strip_prefix(prefix))
                .is_some_and(|name| name.ends_with(suffix))
        })
        .map(|entry| entry.path().join(rest))
        .collect();
    matches.sort();
    matches
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;

    fn stub(bin_dir: &Path, script: &str) {
        std::fs::create_dir_all(bin_dir).expect("a directory");
        for name in ["postgres", "initdb"] {
            let path = bin_dir.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a stub");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
        }
    }

    fn open_tempdir() -> tempfile::TempDir {
        let top = tempfile::tempdir().expect("a temporary directory");
        std::fs::set_permissions(top.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        top
    }

    #[test]
    fn sorts_by_version_and_follows_links() {
        let top = open_tempdir();
        let at = |name: &str| top.path().join(name);
        stub(&at("lib/13/bin"), "echo 'postgres (PostgreSQL) 13.9'");
        stub(
            &at("lib/15/bin"),
            "echo 'postgres (PostgreSQL) 15.18 (Debian x)'",
        );
        stub(&at("lib/9/bin"), "echo 'out of memory' >&2; exit 1");
        stub(&at("odd"), "echo hello");
        std::fs::create_dir(at("links")).expect("a directory");
        std::os::unix::fs::symlink(at("lib/15/bin/postgres"), at("links/postgres")).expect("link");

        let search = SearchPaths {
            explicit: None,
            path: vec![at("links"), at("missing"), at("odd")],
            well_known: vec![format!("{}/lib/*/bin", top.path().display())],
        };
        let discovery = discover(&search, &Account::for_server());

        let versions: Vec<_> = discovery
            .found
            .iter()
            .map(|i| i.build_id.as_str())
            .collect();
        assert_eq!(versions, ["debian-15.18", "installed-13.9"]);
        let reasons: Vec<_> = discovery
            .broken
            .iter()
            .map(|(_, why)| why.as_str())
            .collect();
        assert_eq!(
            reasons,
            ["unexpected answer to --version: \"hello\"", "out of memory"]
        );
    }

    #[test]
    fn an_explicit_directory_is_the_only_one() {
        let top = open_tempdir();
        stub(&top.path().join("a"), "echo 'postgres (PostgreSQL) 17.1'");
        stub(&top.path().join("b"), "echo 'postgres (PostgreSQL) 16.1'");
        let search = SearchPaths {
            explicit: Some(top.path().join("b")),
            path: vec![top.path().join("a")],
            well_known: Vec::new(),
        };
        let discovery = discover(&search, &Account::for_server());
        let versions: Vec<_> = discovery.found.iter().map(|i| i.version.major).collect();
        assert_eq!(versions, [16]);
    }
}
