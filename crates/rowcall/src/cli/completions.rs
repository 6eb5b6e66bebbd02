//! `rowcall completions`

use clap::{Args, CommandFactory as _};

use crate::exit::Exit;

/// Print a shell's completion script.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut super::Cli::command(),
            "rowcall",
            &mut script,
        );
        crate::output::line(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Exit::Success)
    }
}
