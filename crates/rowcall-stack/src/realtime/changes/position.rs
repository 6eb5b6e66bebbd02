//! Places in the stream of changes.

use std::fmt;

/// A place in the stream: the position of the commit, and the number of the change within its transaction.
///
/// On the wire `0/16B3748.3`. Later changes have greater positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Position {
    /// Position of the commit record in the WAL.
    pub(crate) commit: u64,
    /// Number of the change in its transaction, from 1.
    pub(crate) change: u32,
}

impl Position {
    /// Before the first change of what is committed at or after `commit`.
    pub(crate) fn before(commit: u64) -> Self {
        Self { commit, change: 0 }
    }

    /// Reads `0/16B3748.3`, or a plain `0/16B3748`, which lies before the first change of that commit.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (commit, change) = match text.split_once('.') {
            Some((commit, change)) => (commit, change.parse().ok()?),
            None => (text, 0),
        };
        Some(Self {
            commit: parse_lsn(commit)?,
            change,
        })
    }
}

/// Reads a position as PostgreSQL prints it.
pub(crate) fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let high = u32::from_str_radix(high, 16).ok()?;
    let low = u32::from_str_radix(low, 16).ok()?;
    Some(u64::from(high) << 32 | u64::from(low))
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = self.commit & 0xffff_ffff;
        write!(f, "{:X}/{low:X}.{}", self.commit >> 32, self.change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written_and_are_ordered() {
        let position = Position {
            commit: 0x1_016B_3748,
            change: 3,
        };
        assert_eq!(position.to_string(), "1/16B3748.3");
        assert_eq!(Position::parse("1/16B3748.3"), Some(position));
        assert_eq!(
            Position::parse("1/16B3748"),
            Some(Position::before(position.commit))
        );
        assert!(Position::before(position.commit) < position);
        for broken in ["", "1", "1/", "/1", "1/x", "1/2.x", "1/100000000"] {
            assert_eq!(Position::parse(broken), None, "{broken}");
        }
    }
}
