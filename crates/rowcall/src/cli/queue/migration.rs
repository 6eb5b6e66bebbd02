//! Migration files, for databases that change only by them.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::ToSpan as _;
use rowcall_backend::queue::{Broadcast, Migration, QueueName};
use rowcall_core::Clock as _;

use crate::{
    exit::{Exit, UserError},
    output,
    system::SystemClock,
};

/// Where the Supabase CLI looks for them.
const SUPABASE: &str = "supabase/migrations";

/// The end of the name of the file that everything else needs.
const SETUP: &str = "_setup_rowcall_queues.sql";

/// Whether migration files are written, and where.
#[derive(Clone, Debug, Args)]
pub struct Folder {
    /// Write migration files into this folder instead of changing the database
    #[arg(long = "migration", value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = SUPABASE)]
    migration: Option<PathBuf>,
}

impl Folder {
    pub(super) fn is_wanted(&self) -> bool {
        self.migration.is_some()
    }

    fn path(&self) -> &Path {
        self.migration.as_deref().unwrap_or(Path::new(SUPABASE))
    }
}

/// Writes the file that installs pgmq and the wake-ups.
pub(super) fn setup(folder: &Folder) -> anyhow::Result<Exit> {
    write(folder, Vec::new(), true)
}

/// Writes the file that makes a queue.
pub(super) fn create(
    folder: &Folder,
    name: &QueueName,
    broadcast: Option<&Broadcast>,
) -> anyhow::Result<Exit> {
    let at = SystemClock.now() + 1.second();
    write(
        folder,
        vec![Migration::create_queue(name, broadcast, at)],
        false,
    )
}

/// Writes files that switch broadcasts.
pub(super) fn broadcasts(
    folder: &Folder,
    names: &[QueueName],
    broadcast: Option<&Broadcast>,
) -> anyhow::Result<Exit> {
    let now = SystemClock.now();
    // The Supabase CLI orders by the second.
    let files = (1i64..).zip(names);
    let files = files
        .map(|(second, name)| Migration::broadcast(name, broadcast, now + second.seconds()))
        .collect();
    write(folder, files, false)
}

/// Writes the files, after the set-up unless an earlier one is there.
fn write(folder: &Folder, files: Vec<Migration>, again: bool) -> anyhow::Result<Exit> {
    let dir = folder.path();
    let failed = |error: std::io::Error| {
        UserError::new(
            Exit::Failure,
            format!("cannot write into {}: {error}", dir.display()),
        )
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut there = false;
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        there |= name.to_string_lossy().ends_with(SETUP);
    }
    let setup = (again || !there).then(|| Migration::setup(SystemClock.now()));
    for file in setup.into_iter().chain(files) {
        let path = dir.join(&file.file_name);
        std::fs::write(&path, &file.sql).map_err(failed)?;
        output::line(path.display())?;
    }
    Ok(Exit::Success)
}
