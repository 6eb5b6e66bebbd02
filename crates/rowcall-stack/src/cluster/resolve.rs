//! Decides which server programs to run: a pure function of what was found on the machine.
//!
//! A data directory keeps the provider and major version it was made with. A new one gets an
//! installed server of a supported version, because that needs no download; then a pinned build,
//! from the cache or fetched; and an installed server that is out of support only when nothing else
//! is possible.

use std::fmt;

use super::discover::{Discovery, describe_unusable};
use super::error::ClusterError;
use super::install::{Install, ProviderKind};
use super::provision::{Client, ClientKind, Pin};
use super::version::{NEWEST_TESTED_MAJOR, OLDEST_MAJOR, PREFERRED_MAJOR};

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
            writeln!(f, "  {step:<14} {finding}")?;
        }
        write!(f, "  help: {}", self.help)
    }
}

/// What an existing cluster was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) provider: ProviderKind,
    pub(crate) major: u16,
    pub(crate) build_id: String,
}

/// Everything the decision depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// The provider the user asked for.
    pub(crate) preference: Option<ProviderKind>,
    /// What the data directory was made with.
    pub(crate) made: Option<Made>,
    /// Installed servers, highest version first.
    pub(crate) installed: Discovery,
    /// Where they were looked for, in words.
    pub(crate) searched: String,
    /// The builds for this platform, the preferred one first, and whether they are in the cache.
    pub(crate) builds: Vec<(Pin, Option<Install>)>,
    /// Package clients, in the order of preference.
    pub(crate) clients: Vec<Client>,
    /// No client may be started.
    pub(crate) offline: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Run these programs.
    Run { install: Install, why: String },
    /// Fetch a build: the first attempt that works.
    Fetch {
        attempts: Vec<(Client, Pin)>,
        why: String,
        /// When none of them works.
        otherwise: Option<Install>,
    },
}

/// Chooses; the error names everything that was looked at.
pub(crate) fn resolve(environment: &Environment) -> Result<Decision, ClusterError> {
    match &environment.made {
        Some(made) => resolve_existing(environment, made),
        None => resolve_new(environment),
    }
}

fn resolve_existing(environment: &Environment, made: &Made) -> Result<Decision, ClusterError> {
    if let Some(asked) = environment.preference
        && asked != made.provider
    {
        return Err(ClusterError::ProviderMismatch {
            created: made.provider,
            major: made.major,
            asked,
        });
    }
    let why = format!("the data directory was made with {}", made.build_id);
    match made.provider {
        ProviderKind::Installed => environment
            .installed
            .found
            .iter()
            .find(|install| install.version.major == made.major)
            .map(|install| run(install, why)),
        ProviderKind::Provisioned => {
            let fits = |pin: &Pin| pin.version.major == made.major && pin.is_kin(&made.build_id);
            provisioned(environment, fits, why, None)
        }
    }
    .ok_or_else(|| gone(environment, made, &[]))
}

fn resolve_new(environment: &Environment) -> Result<Decision, ClusterError> {
    let installed = |oldest| {
        let usable = environment.installed.found.first();
        usable.filter(|install| {
            environment.preference != Some(ProviderKind::Provisioned)
                && install.version.major >= oldest
        })
    };
    if let Some(install) = installed(PREFERRED_MAJOR) {
        return Ok(run(install, "installed on this machine".to_owned()));
    }
    let old = installed(OLDEST_MAJOR);
    if environment.preference != Some(ProviderKind::Installed) {
        let why = match environment.preference {
            Some(asked) => format!("asked for with --pg {asked}"),
            None => "no supported version is installed on this machine".to_owned(),
        };
        if let Some(decision) = provisioned(environment, |_| true, why, old.cloned()) {
            return Ok(decision);
        }
    }
    match old {
        Some(install) => Ok(run(install, why_old(install))),
        None => Err(unresolved(environment, &[])),
    }
}

/// A build from the cache, or the attempts to fetch one.
fn provisioned(
    environment: &Environment,
    fits: impl Fn(&Pin) -> bool,
    why: String,
    otherwise: Option<Install>,
) -> Option<Decision> {
    let fitting = || environment.builds.iter().filter(|(pin, _)| fits(pin));
    if let Some(install) = fitting().find_map(|(_, cached)| cached.as_ref()) {
        return Some(run(install, why));
    }
    if environment.offline {
        return None;
    }
    let attempts: Vec<_> = environment
        .clients
        .iter()
        .flat_map(|client| {
            let served = fitting().filter(|(pin, _)| client.serves(pin));
            served.map(|(pin, _)| (client.clone(), *pin))
        })
        .collect();
    (!attempts.is_empty()).then_some(Decision::Fetch {
        attempts,
        why,
        otherwise,
    })
}

fn run(install: &Install, mut why: String) -> Decision {
    if install.version.major > NEWEST_TESTED_MAJOR {
        why.push_str("; newer than any version rowcall was tested with");
    }
    Decision::Run {
        install: install.clone(),
        why,
    }
}

/// Why a server is run that the PostgreSQL project no longer supports.
pub(crate) fn why_old(install: &Install) -> String {
    format!(
        "nothing newer can be had; PostgreSQL {} is out of support, upgrade it",
        install.version.major
    )
}

/// Nothing can be run; `failures` are those of the clients that were tried.
pub(crate) fn unresolved(
    environment: &Environment,
    failures: &[(ClientKind, String)],
) -> ClusterError {
    if let Some(made) = &environment.made {
        return gone(environment, made, failures);
    }
    let help = format!("{}, or pass --database-url", install_command(None));
    ClusterError::NoServer(Box::new(findings(environment, failures, help)))
}

fn gone(environment: &Environment, made: &Made, failures: &[(ClientKind, String)]) -> ClusterError {
    let help = match made.provider {
        ProviderKind::Installed => install_command(Some(made.major)),
        ProviderKind::Provisioned if environment.offline => {
            "start once without --offline".to_owned()
        }
        ProviderKind::Provisioned => {
            "install uv, pip or npm (the one it was fetched with), and check the network".to_owned()
        }
    };
    ClusterError::ServerGone {
        major: made.major,
        build_id: made.build_id.clone(),
        findings: Box::new(findings(environment, failures, help)),
    }
}

fn findings(
    environment: &Environment,
    failures: &[(ClientKind, String)],
    help: String,
) -> Findings {
    let installed = format!(
        "looked in {}: found {}",
        environment.searched,
        describe_unusable(&environment.installed)
    );
    let provisioning = match environment.preference {
        Some(ProviderKind::Installed) => "not wanted (--pg installed)".to_owned(),
        Some(ProviderKind::Provisioned) | None => describe_clients(environment, failures),
    };
    Findings {
        steps: vec![
            ("database URL", "not set".to_owned()),
            ("installed", installed),
            ("provisioning", provisioning),
        ],
        help,
    }
}

fn describe_clients(environment: &Environment, failures: &[(ClientKind, String)]) -> String {
    if environment.builds.is_empty() {
        return "there is no pinned build for this platform".to_owned();
    }
    if environment.offline {
        return "no build in the cache, and --offline forbids to fetch one".to_owned();
    }
    let describe = |kind: ClientKind| {
        let failed = failures.iter().find(|(failed, _)| *failed == kind);
        let found = environment.clients.iter().any(|client| client.kind == kind);
        match failed {
            Some((_, reason)) => format!("{kind}: failed: {reason}"),
            None if found => format!("{kind}: has no build that fits"),
            None => format!("{kind}: not found"),
        }
    };
    [ClientKind::Uv, ClientKind::Pip, ClientKind::Npm]
        .map(describe)
        .join("; ")
}

/// The command that installs a server, for this operating system.
fn install_command(major: Option<u16>) -> String {
    if cfg!(target_os = "macos") {
        let version = major.unwrap_or(NEWEST_TESTED_MAJOR);
        return format!("brew install postgresql@{version}");
    }
    match major {
        Some(major) => format!("sudo apt-get install postgresql-{major}"),
        None => "sudo apt-get install postgresql".to_owned(),
    }
}

#[cfg(test)]
mod tests;
