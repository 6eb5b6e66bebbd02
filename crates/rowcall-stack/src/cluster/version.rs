//! PostgreSQL version numbers, as `postgres --version` prints them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The oldest major version that can run rowcall's SQL.
pub const OLDEST_MAJOR: u16 = 14;
/// From this major on an installed server is preferred to a download; older ones are out of support.
pub const PREFERRED_MAJOR: u16 = 15;
/// The newest major the test suite has run on. Newer ones are accepted with a log line.
pub const NEWEST_TESTED_MAJOR: u16 = 18;

/// Major and minor version of a server: 15.18 is major 15, minor 18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PgVersion {
    /// Compatible on disk within one major version only.
    pub major: u16,
    /// Bug fix release; 0 for beta and release candidate builds.
    pub minor: u16,
}

impl PgVersion {
    /// Reads the version out of the banner of `postgres --version`.
    ///
    /// Distributions add a suffix: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    pub fn from_banner(banner: &str) -> Option<Self> {
        let rest = banner.trim().strip_prefix("postgres (PostgreSQL) ")?;
        rest.split_whitespace().next()?.parse().ok()
    }
}

impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The text does not start with a PostgreSQL version number.
#[derive(Debug, thiserror::Error)]
#[error("not a PostgreSQL version: {0:?}")]
pub struct BadVersion(String);

impl FromStr for PgVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadVersion(text.to_owned());
        let digits =
            |part: &str| -> String { part.chars().take_while(char::is_ascii_digit).collect() };
        let (first, second) = text.split_once('.').unwrap_or((text, ""));
        let major_digits = digits(first);
        let major = major_digits.parse().map_err(|_| bad())?;
        // `19beta1` has letters instead of a minor version.
        let minor = if major_digits.len() == first.len() {
            digits(second).parse().unwrap_or(0)
        } else {
            0
        };
        Ok(Self { major, minor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banners_of_distributions() {
        let cases = [
            ("postgres (PostgreSQL) 18.6", Some((18, 6))),
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some((15, 18)),
            ),
            ("postgres (PostgreSQL) 19beta2", Some((19, 0))),
            ("postgres (PostgreSQL) 9.6.24", Some((9, 6))),
            ("psql (PostgreSQL) 15.18", None),
            ("postgres (PostgreSQL) devel", None),
            ("", None),
        ];
        for (banner, expected) in cases {
            let found = PgVersion::from_banner(banner).map(|v| (v.major, v.minor));
            assert_eq!(found, expected, "{banner:?}");
        }
    }
}
