//! The directories of an embedded server, who owns them, and where its socket lies.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::account::Account;
use super::error::ClusterError;

/// The longest path of a unix socket, without the final zero byte.
const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// The longest name of a server's socket.
const SOCKET_NAME: &str = ".s.PGSQL.65535";

/// Where rowcall keeps things unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// The embedded database and its secrets.
    pub data: PathBuf,
    /// Downloads; may be deleted at any time.
    pub cache: PathBuf,
}

impl Directories {
    /// The platform's directories.
    ///
    /// Root's home is closed to the user the server runs as, so root gets `/var/lib/rowcall` and
    /// `/var/cache/rowcall`. Others get the XDG directories, or those of macOS. `variable` reads the
    /// environment. `None` without a home directory.
    pub fn platform(is_root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        if is_root {
            return Some(Self {
                data: PathBuf::from("/var/lib/rowcall"),
                cache: PathBuf::from("/var/cache/rowcall"),
            });
        }
        let absolute = |name| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = absolute("HOME");
        let of = |name, linux: &str, macos: &str| {
            let inside = if cfg!(target_os = "macos") {
                macos
            } else {
                linux
            };
            absolute(name).or_else(|| home.as_ref().map(|home| home.join(inside)))
        };
        Some(Self {
            data: of(
                "XDG_DATA_HOME",
                ".local/share",
                "Library/Application Support",
            )?
            .join("rowcall"),
            cache: of("XDG_CACHE_HOME", ".cache", "Library/Caches")?.join("rowcall"),
        })
    }
}

/// Paths inside the data directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    data_dir: PathBuf,
}

impl Layout {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
        }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.data_dir.join("cluster.json")
    }

    pub(crate) fn secret(&self) -> PathBuf {
        self.data_dir.join("secret/postgres")
    }

    /// Holds one PostgreSQL data directory per major version.
    pub(crate) fn clusters(&self) -> PathBuf {
        self.data_dir.join("pg")
    }

    /// Relative path of the PostgreSQL data directory of a major version.
    pub(crate) fn cluster_name(major: u16) -> String {
        format!("pg/{major}")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }

    /// Makes the directories and checks that the server's user can reach them.
    ///
    /// The mode of a directory that we did not make is never changed.
    pub(crate) fn prepare(&self, account: &Account) -> Result<(), ClusterError> {
        check_access(account, &self.data_dir)?;
        private_directory(&self.data_dir.join("secret"), None)?;
        private_directory(&self.clusters(), Some(account))
    }

    /// The directory for the socket: `run/` in the data directory, or when that path is too long
    /// for a socket, one in the runtime directory or the system's temporary directory.
    pub(crate) fn socket_dir(
        &self,
        runtime_dir: Option<&Path>,
        account: &Account,
    ) -> Result<PathBuf, ClusterError> {
        let usual = self.data_dir.join("run");
        if socket_length(&usual) <= SOCKET_PATH_LIMIT {
            private_directory(&usual, Some(account))?;
            return Ok(usual);
        }
        let digest = Sha256::digest(self.data_dir.as_os_str().as_bytes());
        let name = format!("rowcall-{}", hex::encode(&digest[..8]));
        let temporary = std::env::temp_dir();
        let mut shortest = usual;
        for parent in runtime_dir.into_iter().chain([temporary.as_path()]) {
            let directory = parent.join(&name);
            if socket_length(&directory) < socket_length(&shortest) {
                shortest.clone_from(&directory);
            }
            let usable = parent.is_dir() && account.blocked_at(parent).is_none();
            if usable && socket_length(&directory) <= SOCKET_PATH_LIMIT {
                private_directory(&directory, Some(account))?;
                return Ok(directory);
            }
        }
        Err(ClusterError::SocketPath {
            length: socket_length(&shortest),
            path: shortest.join(SOCKET_NAME),
            limit: SOCKET_PATH_LIMIT,
        })
    }
}

/// Path of the socket of a server.
pub(crate) fn socket_path(socket_dir: &Path, port: u16) -> PathBuf {
    socket_dir.join(format!(".s.PGSQL.{port}"))
}

/// That the server's user may enter `path` and everything above it.
pub(crate) fn check_access(account: &Account, path: &Path) -> Result<(), ClusterError> {
    match account.blocked_at(path) {
        None => Ok(()),
        Some(blocked) => Err(ClusterError::NotTraversable {
            user: account.name.clone(),
            blocked,
            path: path.to_owned(),
        }),
    }
}

fn socket_length(directory: &Path) -> usize {
    directory.as_os_str().len() + "/".len() + SOCKET_NAME.len()
}

/// A directory only its owner may enter: the server's user, or ourselves.
///
/// One that exists must be what we would have made, because it may lie in a place where others can
/// write.
fn private_directory(path: &Path, owner: Option<&Account>) -> Result<(), ClusterError> {
    let failed = || ClusterError::io("create the directory", path);
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            // The mode is subject to the umask, which could even take the owner's rights.
            fs::set_permissions(path, PermissionsExt::from_mode(0o700)).map_err(failed())?;
            if let Some(owner) = owner {
                owner.take_over(path).map_err(failed())?;
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let meta = path.symlink_metadata().map_err(failed())?;
            let own = nix::unistd::Uid::effective().as_raw();
            let expected = owner.map_or(own, |account| account.uid.as_raw());
            if meta.is_dir() && meta.uid() == own && expected != own {
                // Made by a start that was killed before it could hand the directory over.
                if let Some(owner) = owner {
                    owner.take_over(path).map_err(failed())?;
                }
            } else if !meta.is_dir() || meta.uid() != expected {
                let foreign = format!("it exists and does not belong to user {expected}");
                return Err(failed()(std::io::Error::other(foreign)));
            }
            Ok(())
        }
        Err(error) => Err(failed()(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_directories() {
        let variables = |name: &str| match name {
            "HOME" => Some(OsString::from("/home/ada")),
            "XDG_CACHE_HOME" => Some(OsString::from("/fast")),
            "XDG_DATA_HOME" => Some(OsString::from("relative/is/ignored")),
            _ => None,
        };
        let root = Directories::platform(true, variables).expect("always");
        assert_eq!(root.data, Path::new("/var/lib/rowcall"));
        assert_eq!(root.cache, Path::new("/var/cache/rowcall"));
        let user = Directories::platform(false, variables).expect("a home");
        assert_eq!(user.cache, Path::new("/fast/rowcall"));
        assert!(user.data.starts_with("/home/ada"), "{user:?}");
        assert!(user.data.ends_with("rowcall"), "{user:?}");
        assert_eq!(Directories::platform(false, |_| None), None);
    }

    #[test]
    fn a_long_data_directory_gets_its_socket_elsewhere() {
        let top = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(top.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        let account = Account::for_server();
        let short = Layout::new(top.path());
        let usual = short.socket_dir(None, &account).expect("short enough");
        assert_eq!(usual, top.path().join("run"));

        let long = top.path().join("x".repeat(100));
        fs::create_dir(&long).expect("a directory");
        let runtime = top.path().join("rt");
        fs::create_dir(&runtime).expect("a directory");
        fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).expect("chmod");
        let found = Layout::new(&long)
            .socket_dir(Some(&runtime), &account)
            .expect("the runtime directory is short");
        assert_eq!(found.parent(), Some(runtime.as_path()));
        let meta = found.metadata().expect("it was made");
        assert_eq!(meta.permissions().mode() & 0o777, 0o700);
        assert_eq!(meta.uid(), account.uid.as_raw());
        let again = Layout::new(&long).socket_dir(Some(&runtime), &account);
        assert_eq!(again.expect("the same again"), found);
    }

    #[test]
    fn a_socket_directory_somebody_else_made_is_refused() {
        let top = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(top.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        std::os::unix::fs::symlink("/tmp", top.path().join("run")).expect("a link");
        let error = Layout::new(top.path())
            .socket_dir(None, &Account::for_server())
            .expect_err("a link is not ours");
        assert!(matches!(error, ClusterError::Io { .. }), "{error}");
    }
}
