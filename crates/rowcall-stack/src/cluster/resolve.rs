//! Decides which server programs to run.

use std::fmt;

/// What was tried and found, one line per step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Name of the step and its finding.
    pub steps: Vec<(&'static str, String)>,
    /// The one command that helps.
    pub help: String,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, finding) in &self.steps {
            writeln!(f, "  {step:<17} {finding}")?;
        }
        write!(f, "  help: {}", self.help)
    }
}
