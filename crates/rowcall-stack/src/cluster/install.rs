//! A set of server programs on this machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::version::PgVersion;

/// Where server programs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Programs the operating system's packages installed.
    Installed,
    /// A pinned build, fetched once into the cache through a package client.
    Provisioned,
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Installed => "installed",
            Self::Provisioned => "provisioned",
        })
    }
}

/// The text names no provider.
#[derive(Debug, thiserror::Error)]
#[error("unknown provider {0:?}: expected `installed` or `provisioned`")]
pub struct UnknownProvider(String);

impl FromStr for ProviderKind {
    type Err = UnknownProvider;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "installed" => Ok(Self::Installed),
            "provisioned" => Ok(Self::Provisioned),
            _ => Err(UnknownProvider(text.to_owned())),
        }
    }
}

/// Server programs that can be run: what every provider ends in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// Directory with `postgres` and `initdb`.
    pub bin_dir: PathBuf,
    /// Version the programs report.
    pub version: PgVersion,
    /// Names the build, for example `debian-15.18` or `wheel-18.6.3`.
    pub build_id: String,
    /// Where it comes from.
    pub provider: ProviderKind,
}

impl Install {
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// An installed server, from its directory and the banner of `postgres --version`.
    pub(crate) fn from_banner(bin_dir: &Path, banner: &str) -> Option<Self> {
        let version = PgVersion::from_banner(banner)?;
        Some(Self {
            bin_dir: bin_dir.to_owned(),
            version,
            build_id: format!("{}-{version}", distributor(banner)),
            provider: ProviderKind::Installed,
        })
    }
}

/// Who built it: the first word in the parentheses distributions add to the banner.
fn distributor(banner: &str) -> String {
    let named = banner
        .rsplit_once(" (")
        .map(|(_, suffix)| suffix.trim_end().trim_end_matches(')'))
        .and_then(|suffix| suffix.split_whitespace().next())
        .filter(|word| *word != "PostgreSQL" && !banner.ends_with("(PostgreSQL)"))
        .map(str::to_ascii_lowercase)
        .filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'))
        .filter(|word| word.chars().any(|c| c.is_ascii_alphabetic()));
    named.unwrap_or_else(|| "installed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_ids_name_the_distributor() {
        let cases = [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                "debian-15.18",
            ),
            ("postgres (PostgreSQL) 17.2 (Homebrew)", "homebrew-17.2"),
            (
                "postgres (PostgreSQL) 16.1 (Postgres.app)",
                "postgres.app-16.1",
            ),
            ("postgres (PostgreSQL) 18.6", "installed-18.6"),
        ];
        for (banner, expected) in cases {
            let install = Install::from_banner(Path::new("/bin"), banner).expect(banner);
            assert_eq!(install.build_id, expected);
        }
    }
}
