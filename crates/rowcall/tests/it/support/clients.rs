//! What `cargo xtask clients` has installed under `tests/clients`.

use std::path::PathBuf;

/// The folder, which must be set up.
pub(crate) fn clients() -> PathBuf {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients"))
        .canonicalize()
        .expect("the folder is part of the repository");
    assert!(
        folder.join("node_modules/@realtimex/sdk").is_dir() && folder.join(".venv").is_dir(),
        "the official clients are missing: run `cargo xtask clients`"
    );
    folder
}

/// A program of the virtual environment there.
pub(crate) fn python_tool(name: &str) -> PathBuf {
    clients().join(".venv/bin").join(name)
}
