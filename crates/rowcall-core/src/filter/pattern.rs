//! The patterns of `like` and `ilike`.

/// A text pattern. `*` and `%` match any text, `_` one character, and a backslash takes away the meaning of what follows.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    parts: Vec<Wildcard>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// One element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wildcard {
    /// Any text, the empty one too.
    Any,
    /// One character.
    One,
    /// This character.
    Literal(char),
}

impl Pattern {
    /// Reads a pattern; `None` when it ends with a lone backslash.
    pub fn new(text: impl Into<Box<str>>) -> Option<Self> {
        let text = text.into();
        let mut parts = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                // Two in a row mean the same as one and cost time.
                '*' | '%' if parts.last() == Some(&Wildcard::Any) => continue,
                '*' | '%' => Wildcard::Any,
                '_' => Wildcard::One,
                '\\' => Wildcard::Literal(chars.next()?),
                c => Wildcard::Literal(c),
            });
        }
        Some(Self { text, parts })
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The elements in order.
    pub fn parts(&self) -> &[Wildcard] {
        &self.parts
    }

    /// Whether the whole text matches. Linear memory, and at worst pattern × text steps: after a mismatch only the last
    /// wildcard is tried again.
    pub(super) fn matches(&self, text: &str, fold_case: bool) -> bool {
        let text: Vec<char> = text.chars().collect();
        let same = |a: char, b: char| a == b || (fold_case && a.eq_ignore_ascii_case(&b));
        let (mut at, mut part) = (0, 0);
        // Where to go on after a mismatch: behind the last `Any`, one character later each time.
        let mut retry: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.parts.get(part) {
                Some(Wildcard::Any) => {
                    retry = Some((at, part + 1));
                    part += 1;
                    continue;
                }
                Some(Wildcard::One) => {}
                Some(Wildcard::Literal(c)) if same(*c, text[at]) => {}
                _ => match &mut retry {
                    Some((from, behind)) => {
                        *from += 1;
                        (at, part) = (*from, *behind);
                        continue;
                    }
                    None => return false,
                },
            }
            at += 1;
            part += 1;
        }
        self.parts[part..].iter().all(|rest| *rest == Wildcard::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn matches(pattern: &str, text: &str, fold_case: bool) -> bool {
        Pattern::new(pattern).unwrap().matches(text, fold_case)
    }

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("*b*", "abc", true),
            ("a_c", "abc", true),
            ("a_c", "aéc", true),
            ("a_c", "ac", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**a**", "xax", true),
            ("100\\%", "100%", true),
            ("100\\%", "1000", false),
            ("\\*", "*", true),
            ("abc", "abcd", false),
            ("A", "a", false),
        ] {
            assert_eq!(
                matches(pattern, text, false),
                expected,
                "{pattern:?} on {text:?}"
            );
        }
        assert!(Pattern::new("open\\").is_none());
    }

    #[test]
    fn folding_is_ascii_only() {
        assert!(matches("heLLo", "HEllO", true));
        assert!(!matches("É", "é", true));
    }

    #[test]
    fn hostile_patterns_end() {
        let pattern = "*a".repeat(2000);
        assert!(!matches(&pattern, &"a".repeat(1999), false));
        assert!(!matches(&format!("{pattern}*b"), &"a".repeat(5000), false));
    }
}
