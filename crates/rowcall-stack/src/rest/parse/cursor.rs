//! A place in a text being parsed, and the small pieces all grammars here share.

use super::ast::{Field, JsonOperand, JsonStep};

/// Why a text could not be parsed: where, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParseError {
    /// What was being parsed: `filter`, `order`, `select parameter` …
    pub subject: &'static str,
    /// The text.
    pub input: String,
    /// The character, counted from one.
    pub column: usize,
    /// What was expected there.
    pub expected: String,
}

impl ParseError {
    /// The message PostgREST gives; clients match on it.
    pub(crate) fn message(&self) -> String {
        format!(
            "\"failed to parse {} ({})\" (line 1, column {})",
            self.subject, self.input, self.column
        )
    }
}

/// What one grammar function failed with: an offset in bytes and what it wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unexpected {
    pub(super) at: usize,
    pub(super) expected: &'static str,
}

pub(super) type Parsed<T> = Result<T, Unexpected>;

/// Reads a text from left to right.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Passes over `prefix` if it is next.
    pub(super) fn eat(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    pub(super) fn expect(&mut self, prefix: &'static str) -> Parsed<()> {
        if self.eat(prefix) {
            Ok(())
        } else {
            self.fail(prefix)
        }
    }

    pub(super) fn fail<T>(&self, expected: &'static str) -> Parsed<T> {
        Err(Unexpected {
            at: self.at,
            expected,
        })
    }

    pub(super) fn skip_blanks(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
    }

    pub(super) fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    pub(super) fn rest_to_end(&mut self) -> &'a str {
        let rest = self.rest();
        self.at = self.text.len();
        rest
    }

    /// Runs `parse`, and comes back to here if it fails.
    pub(super) fn attempt<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let start = self.at;
        let parsed = parse(self);
        if parsed.is_err() {
            self.at = start;
        }
        parsed
    }

    /// `"…"` with backslash escapes; the opening quote is next.
    pub(super) fn quoted(&mut self) -> Parsed<String> {
        self.expect("\"")?;
        let mut value = String::new();
        loop {
            match self.bump() {
                Some('"') => return Ok(value),
                Some('\\') => match self.bump() {
                    Some(c) => value.push(c),
                    None => return self.fail("a character after \\"),
                },
                Some(c) => value.push(c),
                None => return self.fail("\""),
            }
        }
    }

    /// A name: quoted, or words of letters, digits, `_`, `$` and blanks joined by `-`. Outer blanks go.
    pub(super) fn name(&mut self) -> Parsed<String> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let words = self.dashed(is_name_char);
        if words.is_empty() {
            self.fail("field name (* or [a..z0..9_$])")
        } else {
            Ok(words)
        }
    }

    /// Words of `keep` joined by dashes that do not begin an arrow, each trimmed.
    fn dashed(&mut self, keep: fn(char) -> bool) -> String {
        let mut words = self.take_while(keep).trim().to_owned();
        while !words.is_empty() && self.peek() == Some('-') && !self.rest().starts_with("->") {
            let mut ahead = self.clone();
            ahead.bump();
            let word = ahead.take_while(keep).trim();
            if word.is_empty() {
                break;
            }
            words.push('-');
            words.push_str(word);
            *self = ahead;
        }
        words
    }

    /// `->key->>0…`, possibly empty.
    pub(super) fn json_path(&mut self) -> Parsed<Vec<JsonStep>> {
        let mut path = Vec::new();
        loop {
            let as_text = if self.eat("->>") {
                true
            } else if self.eat("->") {
                false
            } else {
                return Ok(path);
            };
            let operand = match self.attempt(Self::json_index) {
                Ok(index) => JsonOperand::Index(index),
                Err(_) => JsonOperand::Key(self.json_key()?),
            };
            path.push(JsonStep { as_text, operand });
        }
    }

    fn json_index(&mut self) -> Parsed<String> {
        let minus = self.eat("-");
        let digits = self.take_while(|c| c.is_ascii_digit());
        let ends = self.at_end()
            || self.rest().starts_with("->")
            || self.rest().starts_with("::")
            || matches!(self.peek(), Some('.' | ')' | ','));
        // PostgreSQL's index is an int4; longer digits are a key.
        if digits.is_empty() || digits.len() > 9 || !ends {
            return self.fail("digits");
        }
        Ok(format!("{}{digits}", if minus { "-" } else { "" }))
    }

    fn json_key(&mut self) -> Parsed<String> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let key = self.dashed(|c| !matches!(c, '(' | '-' | ':' | '.' | ',' | '>' | ')'));
        if key.is_empty() {
            self.fail("any non reserved character different from: .,>()")
        } else {
            Ok(key)
        }
    }

    /// A name with an optional JSON path, and blanks around it.
    pub(super) fn field(&mut self) -> Parsed<Field> {
        self.skip_blanks();
        let name = self.name()?;
        let path = self.json_path()?;
        self.skip_blanks();
        Ok(Field { name, path })
    }

    /// A type name, fit to be written into SQL as it is: ASCII letters, digits, `_`, `$` and blanks. A `$` that does not belong
    /// to a name would be a parameter or begin a quotation.
    pub(super) fn type_name(&mut self) -> Parsed<String> {
        let name = self
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | ' '))
            .trim();
        let is_loose = |word: &str| {
            word.contains('$')
                && !word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        };
        if name.is_empty() || name.split(' ').any(is_loose) {
            self.fail("a type name")
        } else {
            Ok(name.to_owned())
        }
    }
}

/// A character of an unquoted name.
fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | ' ')
}

/// Parses all of `text`, and names `subject` where that fails.
pub(super) fn parse_all<T>(
    subject: &'static str,
    text: &str,
    parse: impl FnOnce(&mut Cursor<'_>) -> Parsed<T>,
) -> Result<T, ParseError> {
    let mut cursor = Cursor::new(text);
    let parsed = parse(&mut cursor).and_then(|value| {
        if cursor.at_end() {
            Ok(value)
        } else {
            cursor.fail("end of input")
        }
    });
    parsed.map_err(|unexpected| {
        let column = text[..unexpected.at].chars().count() + 1;
        let found = text[unexpected.at..].chars().next().map_or_else(
            || "unexpected end of input".to_owned(),
            |c| format!("unexpected {c:?}"),
        );
        ParseError {
            subject,
            input: text.to_owned(),
            column,
            expected: format!("{found} expecting {}", unexpected.expected),
        }
    })
}
