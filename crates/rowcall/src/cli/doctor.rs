//! `rowcall doctor`

mod checks;
mod database;
mod project;
mod queues;

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::{exit::Exit, output};

/// Check everything that has to be right.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// Works, but somebody should know.
    Notice,
    /// Does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: String,
    verdict: Verdict,
    found: String,
    /// The command or the SQL that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

impl Finding {
    fn good(check: &str, found: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            verdict: Verdict::Good,
            found: found.into(),
            help: None,
        }
    }

    fn notice(check: &str, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            verdict: Verdict::Notice,
            found: found.into(),
            help: Some(help.into()),
        }
    }

    fn problem(check: &str, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            verdict: Verdict::Problem,
            found: found.into(),
            help: Some(help.into()),
        }
    }
}

impl Doctor {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let mut findings = checks::machine(&context).await;
        if context.config.backend.is_project() {
            findings.extend(project::look(&context).await);
            return self.tell(&findings);
        }
        match context
            .with_database(async |url| Ok(database::look(url, &context).await))
            .await
        {
            Ok(found) => findings.extend(found),
            Err(error) => {
                let help = error
                    .downcast_ref::<crate::exit::UserError>()
                    .and_then(|error| error.help.clone())
                    .unwrap_or_else(|| {
                        "check --database-url, or the data directory's postgres.log".to_owned()
                    });
                findings.push(Finding::problem("database", error.to_string(), help));
            }
        }
        self.tell(&findings)
    }

    fn tell(&self, findings: &[Finding]) -> anyhow::Result<Exit> {
        if self.json {
            output::json(&findings)?;
        } else {
            for finding in findings {
                let mark = match finding.verdict {
                    Verdict::Good => "ok     ",
                    Verdict::Notice => "note   ",
                    Verdict::Problem => "PROBLEM",
                };
                output::line(format_args!("{mark}  {}: {}", finding.check, finding.found))?;
                if let Some(help) = &finding.help {
                    output::line(format_args!(
                        "         {}",
                        help.replace('\n', "\n         ")
                    ))?;
                }
            }
        }
        let problems = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Problem)
            .count();
        if problems > 0 {
            output::note(format_args!("{problems} problem(s) found"));
        }
        Ok(if problems > 0 {
            Exit::Problems
        } else {
            Exit::Success
        })
    }
}
