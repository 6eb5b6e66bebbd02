//! Channel topics: `realtime:<name>` on the wire, `<name>` everywhere else (REST, SQL, `system` messages).

/// Topic of heartbeats; no channel.
pub const PHOENIX: &str = "phoenix";
/// What every channel's topic begins with on the wire.
pub const PREFIX: &str = "realtime:";

/// What a client may have meant with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic<'a> {
    /// The connection itself.
    Phoenix,
    /// A channel, by its name without the prefix.
    Channel(&'a str),
    /// `realtime:` alone: a channel without a name.
    Nameless,
    /// Anything else; no server handles it.
    Unmatched,
}

impl<'a> Topic<'a> {
    /// Reads a topic as written on the wire.
    pub fn parse(wire: &'a str) -> Self {
        match wire.strip_prefix(PREFIX) {
            Some("") => Self::Nameless,
            Some(name) => Self::Channel(name),
            None if wire == PHOENIX => Self::Phoenix,
            None => Self::Unmatched,
        }
    }
}

/// The topic of a channel as written on the wire.
pub fn wire(name: &str) -> String {
    format!("{PREFIX}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_told_apart() {
        assert_eq!(Topic::parse("phoenix"), Topic::Phoenix);
        assert_eq!(Topic::parse("realtime:a:b"), Topic::Channel("a:b"));
        assert_eq!(Topic::parse("realtime:"), Topic::Nameless);
        assert_eq!(Topic::parse("room"), Topic::Unmatched);
        assert_eq!(Topic::parse(&wire("x")), Topic::Channel("x"));
    }
}
