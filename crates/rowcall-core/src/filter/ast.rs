//! The tree of a filter, and how it is written down.

use std::fmt::{self, Write};

use super::{compare::Literal, pattern::Pattern};

/// A condition or a combination of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// One column, one test.
    Condition(Condition),
    /// All must hold. Never empty.
    And(Vec<Expr>),
    /// One must hold. Never empty.
    Or(Vec<Expr>),
    /// Must not hold.
    Not(Box<Expr>),
}

/// A test of one value of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub(super) path: Vec<Box<str>>,
    pub(super) test: Test,
}

impl Condition {
    /// The column, then the steps into its JSON. Never empty. In an array a step is an index when PostgreSQL's `#>` reads it
    /// as one.
    pub fn path(&self) -> &[Box<str>] {
        &self.path
    }

    /// What is asked of the value.
    pub fn test(&self) -> &Test {
        &self.test
    }
}

/// What is asked of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// A comparison with one value.
    Compare(Operator, Literal),
    /// Equal to one of these; false when there are none.
    In(Vec<Literal>),
    /// About null and truth.
    Is(IsTest),
    /// A text pattern.
    Like {
        /// The pattern.
        pattern: Pattern,
        /// Whether ASCII letters match in either case.
        fold_case: bool,
    },
}

/// The comparing operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
}

impl Operator {
    /// All of them, with the name in a filter and the operator in SQL.
    pub const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Eq, "eq", "="),
        (Self::Neq, "neq", "<>"),
        (Self::Gt, "gt", ">"),
        (Self::Gte, "gte", ">="),
        (Self::Lt, "lt", "<"),
        (Self::Lte, "lte", "<="),
    ];

    /// The name in a filter.
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The operator in SQL.
    pub fn as_sql(self) -> &'static str {
        Self::ALL[self as usize].2
    }
}

/// What `is` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsTest {
    /// Missing or null.
    Null,
    /// There and not null.
    NotNull,
    /// The boolean true.
    True,
    /// The boolean false.
    False,
    /// No truth value: the same as null.
    Unknown,
}

impl IsTest {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Null, "null"),
        (Self::NotNull, "not_null"),
        (Self::True, "true"),
        (Self::False, "false"),
        (Self::Unknown, "unknown"),
    ];

    /// The name in a filter.
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl Expr {
    /// The columns that are looked at, each as often as it stands in the filter.
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Self::Condition(condition) => vec![&condition.path[0]],
            Self::And(all) | Self::Or(all) => all.iter().flat_map(Self::columns).collect(),
            Self::Not(inner) => inner.columns(),
        }
    }

    /// Writes the form that stands at the top: `column=eq.value&or=(…)`.
    pub(super) fn write_top(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::And(all) = self {
            for (index, one) in all.iter().enumerate() {
                if index > 0 {
                    f.write_char('&')?;
                }
                one.write(f, '=')?;
            }
            return Ok(());
        }
        self.write(f, '=')
    }

    /// Writes one condition; `between` stands between column and operator: `=` at the top, `.` inside brackets.
    fn write(&self, f: &mut fmt::Formatter<'_>, between: char) -> fmt::Result {
        let (negated, inner) = match self {
            Self::Not(inner) => (true, &**inner),
            other => (false, other),
        };
        let not = if negated { "not." } else { "" };
        match inner {
            Self::Condition(condition) => {
                for (index, step) in condition.path.iter().enumerate() {
                    if index > 0 {
                        f.write_str("->")?;
                    }
                    write_name(f, step)?;
                }
                write!(f, "{between}{not}")?;
                condition.test.write(f)
            }
            Self::And(all) | Self::Or(all) => {
                let word = if matches!(inner, Self::And(_)) {
                    "and"
                } else {
                    "or"
                };
                let equals = if between == '=' { "=" } else { "" };
                write!(f, "{not}{word}{equals}(")?;
                for (index, one) in all.iter().enumerate() {
                    if index > 0 {
                        f.write_char(',')?;
                    }
                    one.write(f, '.')?;
                }
                f.write_char(')')
            }
            // The parser makes no double negation; should code make one, it cancels out.
            Self::Not(twice) => twice.write(f, between),
        }
    }
}

impl Test {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compare(operator, literal) => {
                write!(f, "{}.", operator.as_str())?;
                write_value(f, literal.text())
            }
            Self::In(list) => {
                f.write_str("in.(")?;
                for (index, literal) in list.iter().enumerate() {
                    if index > 0 {
                        f.write_char(',')?;
                    }
                    write_value(f, literal.text())?;
                }
                f.write_char(')')
            }
            Self::Is(is) => write!(f, "is.{}", is.as_str()),
            Self::Like { pattern, fold_case } => {
                write!(f, "{}.", if *fold_case { "ilike" } else { "like" })?;
                write_value(f, pattern.text())
            }
        }
    }
}

fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let plain = !name.is_empty()
        && !matches!(name, "and" | "or" | "not")
        && !name.contains(['=', '.', ',', '&', '(', ')', '"', '\\', '>'])
        && !name.contains(char::is_whitespace);
    if plain {
        f.write_str(name)
    } else {
        write_quoted(f, name)
    }
}

fn write_value(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    let plain = !value.is_empty()
        && !value.contains([',', '&', '(', ')', '"', '\\'])
        && value.trim() == value;
    if plain {
        f.write_str(value)
    } else {
        write_quoted(f, value)
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}
