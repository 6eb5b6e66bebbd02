//! `rowcall queue init`: the files of a new worker.

use std::path::{Path, PathBuf};

use clap::Args;
use rowcall_backend::queue::{Broadcast, Migration, QueueName};
use rowcall_core::Clock as _;

use super::schema;
use crate::{
    exit::{Exit, UserError},
    output,
    system::SystemClock,
};

/// The queue that a new worker reads.
const QUEUE: &str = "incoming-messages";

/// The files of every new worker.
const FILES: [(&str, &str); 2] = [
    (
        "worker.py",
        include_str!("../../../../../examples/queue-worker/worker.py"),
    ),
    ("rowcall.toml", include_str!("init/rowcall.toml")),
];

/// What else it gets, unless it is to be minimal.
const ENVIRONMENT: (&str, &str) = (".env.example", include_str!("init/env.example"));

/// What the Supabase CLI finds in a new project; `supabase init` writes more, and is to be run first.
const SUPABASE: &str = "[api]\nenabled = true\nschemas = [\"public\", \"graphql_public\"]\n";

/// Start a folder for a worker; files that are there stay as they are
#[derive(Debug, Args)]
pub struct Init {
    /// Where to; made when it is missing
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Also what a Supabase project needs: migrations, and the schema in supabase/config.toml
    #[arg(long)]
    supabase: bool,
    /// Everything there is
    #[arg(long)]
    all: bool,
    /// Only the program and its configuration
    #[arg(long, conflicts_with_all = ["supabase", "all"])]
    minimal: bool,
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        make_dir(&self.dir)?;
        for (name, text) in FILES {
            write(&self.dir.join(name), text)?;
        }
        if !self.minimal {
            let (name, text) = ENVIRONMENT;
            write(&self.dir.join(name), text)?;
        }
        if self.supabase || self.all {
            self.supabase()?;
        }
        output::note(format_args!(
            "start it with `rowcall worker` in {}",
            self.dir.display()
        ));
        Ok(Exit::Success)
    }

    fn supabase(&self) -> anyhow::Result<()> {
        let migrations = self.dir.join("supabase/migrations");
        make_dir(&migrations)?;
        let queue = QueueName::new(QUEUE).expect("a constant");
        let now = SystemClock.now();
        let broadcast = Broadcast::default();
        let later = now + jiff::SignedDuration::from_secs(1);
        for file in [
            Migration::setup(now),
            Migration::create_queue(&queue, Some(&broadcast), later),
        ] {
            match written_before(&migrations, &file.file_name)? {
                Some(name) => kept(&migrations.join(name)),
                None => write(&migrations.join(&file.file_name), &file.sql)?,
            }
        }
        let config = self.dir.join(schema::CONFIG);
        write(&config, SUPABASE)?;
        if schema::set(&config, true)? {
            output::note(format_args!(
                "pgmq_public is exposed in {}",
                config.display()
            ));
        }
        Ok(())
    }
}

/// A migration of the same name, whatever its time.
fn written_before(dir: &Path, name: &str) -> anyhow::Result<Option<String>> {
    let end = name.trim_start_matches(|c: char| c.is_ascii_digit());
    for entry in std::fs::read_dir(dir)? {
        let known = entry?.file_name().to_string_lossy().into_owned();
        if known.trim_start_matches(|c: char| c.is_ascii_digit()) == end {
            return Ok(Some(known));
        }
    }
    Ok(None)
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).map_err(|error| failed("make", dir, &error).into())
}

/// Writes a file unless there is one.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let made = std::fs::File::create_new(path);
    let written = made.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    match written {
        Ok(()) => output::note(format_args!("wrote {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => kept(path),
        Err(error) => return Err(failed("write", path, &error).into()),
    }
    Ok(())
}

fn kept(path: &Path) {
    output::note(format_args!(
        "{} is there already, and stays",
        path.display()
    ));
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> UserError {
    UserError::new(
        Exit::Failure,
        format!("cannot {doing} {}: {error}", path.display()),
    )
    .help("choose another folder, or make this one writable")
}
