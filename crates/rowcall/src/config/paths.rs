//! The platform's homes for data and caches.

use std::path::PathBuf;

/// The folder below the platform's homes.
const FOLDER: &str = "rowcall";

/// `/var/lib/rowcall` for root (PostgreSQL runs as another user and cannot enter root's home), otherwise
/// `$XDG_DATA_HOME/rowcall`, `~/.local/share/rowcall`, or `~/Library/Application Support/rowcall` on macOS.
pub(super) fn data_home() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib").join(FOLDER));
    }
    home(
        "XDG_DATA_HOME",
        ".local/share",
        "Library/Application Support",
    )
}

/// `/var/cache/rowcall` for root, otherwise `$XDG_CACHE_HOME/rowcall`, `~/.cache/rowcall` or `~/Library/Caches/rowcall`.
pub(super) fn cache_home() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/cache").join(FOLDER));
    }
    home("XDG_CACHE_HOME", ".cache", "Library/Caches")
}

fn home(variable: &str, unix: &str, mac: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(variable).map(PathBuf::from)
        && dir.is_absolute()
    {
        return Some(dir.join(FOLDER));
    }
    let home = std::env::home_dir().filter(|home| home.is_absolute())?;
    let below = if cfg!(target_os = "macos") { mac } else { unix };
    Some(home.join(below).join(FOLDER))
}
