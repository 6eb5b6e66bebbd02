//! The filters of bindings: `column=[not.]operator.value`, several joined by commas.

/// Values an `in` list may have.
pub(crate) const MAX_IN_VALUES: usize = 100;
/// Longest filter, in bytes.
pub(crate) const MAX_FILTER_BYTES: usize = 16_384;

/// A comparison, with its meaning in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
    In,
    Like,
    Ilike,
    Is,
    Match,
    Imatch,
    IsDistinct,
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Eq,
            "neq" => Self::Neq,
            "lt" => Self::Lt,
            "lte" => Self::Lte,
            "gt" => Self::Gt,
            "gte" => Self::Gte,
            "in" => Self::In,
            "like" => Self::Like,
            "ilike" => Self::Ilike,
            "is" => Self::Is,
            "match" => Self::Match,
            "imatch" => Self::Imatch,
            "isdistinct" => Self::IsDistinct,
            _ => return None,
        })
    }

    /// The SQL operator; `in` and `is` are written in their own ways.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Eq | Self::In => "=",
            Self::Neq => "<>",
            Self::Lt => "<",
            Self::Lte => "<=",
            Self::Gt => ">",
            Self::Gte => ">=",
            Self::Like => "like",
            Self::Ilike => "ilike",
            Self::Match => "~",
            Self::Imatch => "~*",
            Self::Is => "is",
            Self::IsDistinct => "is distinct from",
        }
    }

    /// Whether it compares texts with a pattern.
    pub(crate) fn is_pattern(self) -> bool {
        matches!(self, Self::Like | Self::Ilike | Self::Match | Self::Imatch)
    }
}

/// What a segment compares with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Operand {
    One(String),
    Many(Vec<String>),
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Segment {
    pub(crate) column: String,
    pub(crate) operator: Operator,
    pub(crate) negated: bool,
    pub(crate) operand: Operand,
}

/// Why a filter cannot be read; the text of the notice clients get.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("Error parsing `filter` params: {0}")]
    Params(String),
}

impl FilterError {
    fn params(text: impl Into<String>) -> Self {
        Self::Params(text.into())
    }

    /// Upstream's text for a segment that has not the form of one: the parts it was cut into, as Elixir prints lists.
    fn parts(segment: &str) -> Self {
        let parts: Vec<String> = segment
            .splitn(2, '=')
            .map(|part| format!("{part:?}"))
            .collect();
        Self::Params(format!("[{}]", parts.join(", ")))
    }
}

/// Reads a filter; a blank one has no segments.
pub(crate) fn parse(filter: &str) -> Result<Vec<Segment>, FilterError> {
    if filter.len() > MAX_FILTER_BYTES {
        return Err(FilterError::params(format!(
            "filter is longer than {MAX_FILTER_BYTES} bytes"
        )));
    }
    if filter.trim().is_empty() {
        return Ok(Vec::new());
    }
    split(filter).into_iter().map(segment).collect()
}

/// Cuts at commas outside parentheses and quotes. A quote opens only right after `.`, `(` or `,`.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    let (mut in_quotes, mut escaped) = (false, false);
    let mut previous = ',';
    for (at, character) in text.char_indices() {
        if in_quotes {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_quotes = false,
                _ => {}
            }
        } else {
            match character {
                '"' if matches!(previous, '.' | '(' | ',') => in_quotes = true,
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => {
                    parts.push(&text[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
        previous = character;
    }
    parts.push(&text[start..]);
    parts
}

fn segment(text: &str) -> Result<Segment, FilterError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(FilterError::params(
            "filter must not contain empty segments (check for extra commas)",
        ));
    }
    let (column, rest) = text
        .split_once('=')
        .ok_or_else(|| FilterError::parts(text))?;
    let (negated, rest) = match rest.trim_start().strip_prefix("not.") {
        Some(rest) => (true, rest),
        None => (false, rest.trim_start()),
    };
    let (name, value) = rest
        .split_once('.')
        .ok_or_else(|| FilterError::parts(text))?;
    let operator = Operator::parse(name).ok_or_else(|| FilterError::parts(text))?;
    let column = column.trim();
    if column.is_empty() {
        return Err(FilterError::parts(text));
    }
    let operand = match operator {
        Operator::In => Operand::Many(list(value)?),
        Operator::Is => Operand::One(truth(value, text)?),
        _ => Operand::One(unquote(value)),
    };
    Ok(Segment {
        column: column.to_owned(),
        operator,
        negated,
        operand,
    })
}

fn truth(value: &str, segment: &str) -> Result<String, FilterError> {
    let value = value.trim().to_ascii_lowercase();
    let is_known = matches!(value.as_str(), "null" | "true" | "false" | "unknown");
    is_known
        .then_some(value)
        .ok_or_else(|| FilterError::parts(segment))
}

fn list(value: &str) -> Result<Vec<String>, FilterError> {
    let inner = value
        .trim()
        .strip_prefix('(')
        .and_then(|value| value.strip_suffix(')'))
        .ok_or_else(|| FilterError::params("`in` filter value must be wrapped by parentheses"))?;
    let values: Vec<String> = split(inner)
        .into_iter()
        .map(|value| unquote(value.trim()))
        .collect();
    if values.len() > MAX_IN_VALUES {
        return Err(FilterError::params(format!(
            "`in` takes at most {MAX_IN_VALUES} values"
        )));
    }
    Ok(values)
}

/// A value wholly in quotes loses them; inside, a backslash takes the next character as it is.
fn unquote(value: &str) -> String {
    let quoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    let Some(inner) = quoted else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(column: &str, operator: Operator, negated: bool, value: &str) -> Segment {
        Segment {
            column: column.to_owned(),
            operator,
            negated,
            operand: Operand::One(value.to_owned()),
        }
    }

    fn many(column: &str, values: &[&str]) -> Segment {
        Segment {
            column: column.to_owned(),
            operator: Operator::In,
            negated: false,
            operand: Operand::Many(values.iter().map(|&value| value.to_owned()).collect()),
        }
    }

    #[test]
    fn segments_are_joined_by_commas_outside_parentheses_and_quotes() {
        assert_eq!(
            parse(r#"status=in.("a,b",c),note=not.is.null, n=gt.5"#).unwrap(),
            [
                many("status", &["a,b", "c"]),
                one("note", Operator::Is, true, "null"),
                one("n", Operator::Gt, false, "5"),
            ]
        );
        assert_eq!(
            parse(r#"a=eq."x, \"y\"""#).unwrap(),
            [one("a", Operator::Eq, false, r#"x, "y""#)]
        );
    }

    #[test]
    fn values_may_hold_dots_and_equal_signs() {
        assert_eq!(
            parse("mail=eq.a.b=c@d.e").unwrap(),
            [one("mail", Operator::Eq, false, "a.b=c@d.e")]
        );
        assert_eq!(parse("a=eq.").unwrap(), [one("a", Operator::Eq, false, "")]);
    }

    #[test]
    fn a_quote_in_the_middle_is_a_character() {
        assert_eq!(
            parse(r#"a=eq.5" pipe,b=eq.1"#).unwrap(),
            [
                one("a", Operator::Eq, false, r#"5" pipe"#),
                one("b", Operator::Eq, false, "1")
            ]
        );
    }

    #[test]
    fn blank_filters_have_no_segments_and_broken_ones_are_errors() {
        assert_eq!(parse("  ").unwrap(), []);
        for broken in [
            "a",
            "a=1",
            "a=foo.1",
            "=eq.1",
            "a=eq.1,",
            ",a=eq.1",
            "a=in.1,2",
            "a=is.maybe",
            "a=not.1",
        ] {
            assert!(parse(broken).is_err(), "{broken}");
        }
        assert_eq!(
            parse("foo=hey").unwrap_err().to_string(),
            r#"Error parsing `filter` params: ["foo", "hey"]"#
        );
        assert_eq!(
            parse("undefined").unwrap_err().to_string(),
            r#"Error parsing `filter` params: ["undefined"]"#
        );
        let long = format!("a=in.({})", vec!["1"; 101].join(","));
        assert!(parse(&long).unwrap_err().to_string().contains("100"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_filter_or_an_error(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn quoted_values_come_through(value in any::<String>()) {
            let escaped = value.replace('\\', r"\\").replace('"', r#"\""#);
            let filter = format!(r#"a=eq."{escaped}",b=in.("{escaped}",x)"#);
            if filter.len() <= MAX_FILTER_BYTES {
                let segments = parse(&filter)?;
                prop_assert_eq!(&segments[0], &one("a", Operator::Eq, false, &value));
                prop_assert_eq!(&segments[1], &many("b", &[&value, "x"]));
            }
        }
    }
}
