//! `cluster.json`: what the data directory was made with, so that it is never opened with anything
//! else.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::durable::replace_file;
use super::error::ClusterError;
use super::install::{Install, ProviderKind};
use super::layout::Layout;

/// The format this version writes and reads.
const FORMAT: u32 = 1;
/// What helps against a damaged state file.
const RESTORE: &str = "restore the file from a backup; the data in pg/ was not touched";
/// Marks a cluster that is still being made: `pg/18.init-<pid>`.
const UNFINISHED: &str = ".init-";

/// The state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) format: u32,
    pub(crate) provider: ProviderKind,
    pub(crate) major: u16,
    pub(crate) build_id: String,
    /// Locale provider and locale, for example `builtin:C.UTF-8`.
    pub(crate) locale_provider: String,
    /// The PostgreSQL data directory, relative to ours.
    pub(crate) data_dir: String,
    /// Version of rowcall.
    pub(crate) created_by: String,
    pub(crate) created_at: jiff::Timestamp,
}

/// Only this much is the same in every format.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// What is in a data directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// No cluster yet.
    Nothing,
    /// A state file whose cluster is gone, or was never finished.
    StateOnly,
    /// A cluster of ours.
    Cluster(State),
}

impl State {
    pub(crate) fn new(install: &Install, locale: &str, created_at: jiff::Timestamp) -> Self {
        Self {
            format: FORMAT,
            provider: install.provider,
            major: install.version.major,
            build_id: install.build_id.clone(),
            locale_provider: locale.to_owned(),
            data_dir: Layout::cluster_name(install.version.major),
            created_by: env!("CARGO_PKG_VERSION").to_owned(),
            created_at,
        }
    }

    fn read(path: &Path) -> Result<Option<Self>, ClusterError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ClusterError::io("read", path)(error)),
        };
        let bad = |reason: String, help| ClusterError::State {
            path: path.to_owned(),
            reason,
            help,
        };
        let any: AnyFormat =
            serde_json::from_slice(&text).map_err(|error| bad(error.to_string(), RESTORE))?;
        if any.format != FORMAT {
            let reason = format!("its format is {}, this rowcall knows {FORMAT}", any.format);
            return Err(bad(reason, "use the newer rowcall that wrote it"));
        }
        let state: Self =
            serde_json::from_slice(&text).map_err(|error| bad(error.to_string(), RESTORE))?;
        if state.data_dir != Layout::cluster_name(state.major) {
            let reason = format!("unexpected directory {:?}", state.data_dir);
            return Err(bad(reason, RESTORE));
        }
        Ok(Some(state))
    }

    /// Replaces the file as a whole: after a crash either the old or the new one is there.
    pub(crate) fn write(&self, layout: &Layout) -> Result<(), ClusterError> {
        let mut text = serde_json::to_vec_pretty(self).expect("plain data");
        text.push(b'\n');
        replace_file(&layout.state(), &text)
    }
}

/// Looks at the data directory without changing anything.
pub(crate) fn inspect(layout: &Layout) -> Result<Existing, ClusterError> {
    let foreign = |path: &Path| ClusterError::Foreign {
        path: path.to_owned(),
    };
    // Somebody passed the data directory of a server of their own.
    if layout.data_dir().join("PG_VERSION").exists() {
        return Err(foreign(layout.data_dir()));
    }
    let Some(state) = State::read(&layout.state())? else {
        return match finished_clusters(layout)?.first() {
            Some(path) => Err(foreign(path)),
            None => Ok(Existing::Nothing),
        };
    };
    let path = layout.data_dir().join(&state.data_dir);
    match fs::read_to_string(path.join("PG_VERSION")) {
        Ok(found) if found.trim() == state.major.to_string() => Ok(Existing::Cluster(state)),
        Ok(found) => Err(ClusterError::WrongMajor {
            path,
            found: found.trim().to_owned(),
            expected: state.major,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if path.exists() {
                return Err(ClusterError::State {
                    path: layout.state(),
                    reason: format!("{} is there but has no PG_VERSION", path.display()),
                    help: "move that directory away to begin with an empty database",
                });
            }
            match finished_clusters(layout)?.first() {
                Some(other) => Err(foreign(other)),
                None => Ok(Existing::StateOnly),
            }
        }
        Err(error) => Err(ClusterError::io("read", &path)(error)),
    }
}

/// Directories in `pg/` that hold a whole cluster.
fn finished_clusters(layout: &Layout) -> Result<Vec<PathBuf>, ClusterError> {
    let (unfinished, mut finished): (Vec<_>, Vec<_>) = entries(layout)?
        .into_iter()
        .partition(|path| is_unfinished(path));
    drop(unfinished);
    finished.retain(|path| path.join("PG_VERSION").exists());
    Ok(finished)
}

/// What a start that was killed while it made a cluster left in `pg/`.
pub(crate) fn unfinished(layout: &Layout) -> Result<Vec<PathBuf>, ClusterError> {
    let mut paths = entries(layout)?;
    paths.retain(|path| is_unfinished(path));
    Ok(paths)
}

/// Where a cluster is made before it gets its name.
pub(crate) fn unfinished_path(layout: &Layout, major: u16) -> PathBuf {
    layout
        .clusters()
        .join(format!("{major}{UNFINISHED}{}", std::process::id()))
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().contains(UNFINISHED))
}

fn entries(layout: &Layout) -> Result<Vec<PathBuf>, ClusterError> {
    let directory = layout.clusters();
    let listed = match fs::read_dir(&directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    listed.map_err(ClusterError::io("read", &directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::cluster::version::PgVersion;

    fn data_dir() -> (tempfile::TempDir, Layout) {
        let top = tempfile::tempdir().expect("a temporary directory");
        let layout = Layout::new(top.path());
        (top, layout)
    }

    fn state(major: u16) -> State {
        let install = Install {
            bin_dir: PathBuf::from("/bin"),
            version: PgVersion { major, minor: 1 },
            build_id: format!("debian-{major}.1"),
            provider: ProviderKind::Installed,
        };
        State::new(&install, "builtin:C.UTF-8", jiff::Timestamp::UNIX_EPOCH)
    }

    fn cluster(layout: &Layout, name: &str, version: &str) {
        let directory = layout.clusters().join(name);
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("PG_VERSION"), format!("{version}\n")).expect("PG_VERSION");
    }

    #[test]
    fn reads_what_it_wrote() {
        let (_top, layout) = data_dir();
        assert_eq!(inspect(&layout).expect("empty"), Existing::Nothing);
        state(17).write(&layout).expect("written");
        assert_eq!(inspect(&layout).expect("no cluster"), Existing::StateOnly);
        cluster(&layout, "17", "17");
        assert_eq!(
            inspect(&layout).expect("ours"),
            Existing::Cluster(state(17))
        );
    }

    #[test]
    fn an_interrupted_initdb_is_not_a_cluster() {
        let (_top, layout) = data_dir();
        cluster(&layout, "17.init-42", "17");
        assert_eq!(inspect(&layout).expect("nothing yet"), Existing::Nothing);
        let left = unfinished(&layout).expect("listed");
        assert_eq!(left, [layout.clusters().join("17.init-42")]);
    }

    #[test]
    fn clusters_of_others_are_refused() {
        let (_top, layout) = data_dir();
        cluster(&layout, "17", "17");
        let error = inspect(&layout).expect_err("no state file");
        assert_eq!(error.code(), "cluster-foreign");

        let (top, layout) = data_dir();
        fs::write(top.path().join("PG_VERSION"), "16\n").expect("PG_VERSION");
        let error = inspect(&layout).expect_err("a data directory itself");
        assert_eq!(error.code(), "cluster-foreign");
    }

    #[test]
    fn older_and_newer_clusters_are_refused() {
        for found in ["16", "18"] {
            let (_top, layout) = data_dir();
            state(17).write(&layout).expect("written");
            cluster(&layout, "17", found);
            let error = inspect(&layout).expect_err("another major");
            assert_eq!(error.code(), "cluster-wrong-major");
            assert!(
                error.to_string().contains(&format!("PostgreSQL {found}")),
                "{error}"
            );
        }
    }

    #[test]
    fn state_files_that_cannot_be_used() {
        for (text, expected) in [
            ("{\"format\": 2}", "its format is 2"),
            ("{}", "missing field `format`"),
            ("not json", "expected ident"),
            ("{\"format\": 1}", "missing field `provider`"),
        ] {
            let (_top, layout) = data_dir();
            fs::write(layout.state(), text).expect("written");
            let error = inspect(&layout).expect_err(text);
            assert_eq!(error.code(), "cluster-state");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
