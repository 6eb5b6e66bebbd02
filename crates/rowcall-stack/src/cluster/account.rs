//! The operating system user the server runs as: never root, which PostgreSQL refuses.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

/// The traditional number of `nobody`, for containers without a passwd file.
const NOBODY: u32 = 65534;

/// A user to run the server as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// Name in the passwd database, or the number.
    pub(crate) name: String,
    /// Whether a child must change to this user: only when we are root.
    pub(crate) switch: bool,
}

impl Account {
    /// Our own user, or when we are root `postgres`, else `nobody`.
    pub(crate) fn for_server() -> Self {
        let own = Uid::effective();
        if !own.is_root() {
            return Self {
                uid: own,
                gid: Gid::effective(),
                name: name_of(own),
                switch: false,
            };
        }
        for name in ["postgres", "nobody"] {
            if let Ok(Some(user)) = User::from_name(name) {
                return Self {
                    uid: user.uid,
                    gid: user.gid,
                    name: user.name,
                    switch: true,
                };
            }
        }
        Self {
            uid: Uid::from_raw(NOBODY),
            gid: Gid::from_raw(NOBODY),
            name: NOBODY.to_string(),
            switch: true,
        }
    }

    /// The user an existing cluster belongs to.
    ///
    /// As root we keep to it: the default may have changed since, for example because a package
    /// made a user `postgres`.
    pub(crate) fn for_cluster(directory: &Path) -> Self {
        let account = Self::for_server();
        match directory.metadata() {
            Ok(meta) if account.switch && meta.uid() != 0 => Self {
                uid: Uid::from_raw(meta.uid()),
                gid: Gid::from_raw(meta.gid()),
                name: name_of(Uid::from_raw(meta.uid())),
                switch: true,
            },
            Ok(_) | Err(_) => account,
        }
    }

    /// Makes `command` run as this user. The standard library clears the supplementary groups.
    pub(crate) fn apply(&self, command: &mut Command) {
        if self.switch {
            command.gid(self.gid.as_raw()).uid(self.uid.as_raw());
        }
    }

    /// Gives `path` to this user when we are root.
    pub(crate) fn take_over(&self, path: &Path) -> std::io::Result<()> {
        if self.switch {
            std::os::unix::fs::chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))?;
        }
        Ok(())
    }

    /// The first directory on the way to `path` (and `path` itself) that this user cannot enter.
    ///
    /// Judged from the mode bits; access control lists are not read.
    pub(crate) fn blocked_at(&self, path: &Path) -> Option<PathBuf> {
        let mut parents: Vec<&Path> = path.ancestors().collect();
        parents.reverse();
        parents
            .into_iter()
            .filter(|parent| !parent.as_os_str().is_empty())
            .find(|parent| parent.metadata().is_ok_and(|meta| !self.may_enter(&meta)))
            .map(Path::to_owned)
    }

    fn may_enter(&self, meta: &std::fs::Metadata) -> bool {
        if self.uid.is_root() {
            return true;
        }
        let mode = meta.permissions().mode();
        let bit = if meta.uid() == self.uid.as_raw() {
            0o100
        } else if meta.gid() == self.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        mode & bit != 0
    }
}

fn name_of(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger() -> Account {
        Account {
            uid: Uid::from_raw(54_321),
            gid: Gid::from_raw(54_321),
            name: "stranger".to_owned(),
            switch: true,
        }
    }

    #[test]
    fn names_the_directory_that_blocks() {
        let top = tempfile::tempdir().expect("a temporary directory");
        std::fs::set_permissions(top.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        let closed = top.path().join("closed");
        let inner = closed.join("inner");
        std::fs::create_dir_all(&inner).expect("directories");
        std::fs::set_permissions(&inner, PermissionsExt::from_mode(0o755)).expect("chmod");

        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).expect("chmod");
        assert_eq!(stranger().blocked_at(&inner), Some(closed.clone()));

        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o711)).expect("chmod");
        assert_eq!(stranger().blocked_at(&inner), None);
    }
}
