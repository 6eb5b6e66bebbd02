//! Writing so that a crash or a power cut leaves either the old or the new.

use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::path::Path;

use super::error::ClusterError;

/// Makes a directory and the missing ones above it, each with this mode whatever the umask is.
pub(crate) fn make_path(path: &Path, mode: u32) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        make_path(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, PermissionsExt::from_mode(mode)),
        // Another process was faster.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a file that only we may read, replacing an older one at once.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), ClusterError> {
    let failed = || ClusterError::io("write", path);
    let parent = path.parent().expect("a file in a directory");
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(failed())?;
    file.write_all(content).map_err(failed())?;
    file.as_file().sync_all().map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    sync_directory(parent)
}

/// Makes a rename inside the directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), ClusterError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(ClusterError::io("sync", path))
}

/// Makes everything below the directory durable: one pass over the file system, which is faster than
/// a sync of each of a thousand files.
#[cfg(target_os = "linux")]
pub(crate) fn sync_file_system(directory: &Path) -> Result<(), ClusterError> {
    fs::File::open(directory)
        .and_then(|open| nix::unistd::syncfs(&open).map_err(std::io::Error::from))
        .map_err(ClusterError::io("sync", directory))
}

/// Makes everything below the directory durable.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sync_file_system(directory: &Path) -> Result<(), ClusterError> {
    let failed = || ClusterError::io("sync", directory);
    for entry in fs::read_dir(directory).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if path.is_dir() {
            sync_file_system(&path)?;
        } else {
            let file = fs::File::open(&path).map_err(failed())?;
            file.sync_all().map_err(failed())?;
        }
    }
    sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_get_their_mode_and_others_keep_theirs() {
        let top = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(top.path(), PermissionsExt::from_mode(0o700)).expect("chmod");
        let mode = |path: &Path| path.metadata().expect("metadata").permissions().mode() & 0o777;
        make_path(&top.path().join("a/b"), 0o755).expect("made");
        assert_eq!(mode(top.path()), 0o700);
        assert_eq!(mode(&top.path().join("a")), 0o755);
        assert_eq!(mode(&top.path().join("a/b")), 0o755);
        make_path(&top.path().join("a/b"), 0o700).expect("there already");
        assert_eq!(mode(&top.path().join("a/b")), 0o755);
    }

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let top = tempfile::tempdir().expect("a temporary directory");
        let path = top.path().join("file");
        for content in ["one", "two"] {
            replace_file(&path, content.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), content);
        }
        let meta = path.metadata().expect("metadata");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(top.path()).expect("listed").count(), 1);
    }
}
