//! Table names, with their schema.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// PostgreSQL truncates identifiers at this many bytes; a longer name can never match.
pub const MAX_IDENTIFIER_BYTES: usize = 63;

/// A table, always with its schema. Parsed as PostgreSQL reads names, except that unquoted letters keep their case:
/// configuration files write `public.Orders` for the table `"Orders"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName {
    schema: Arc<str>,
    name: Arc<str>,
}

/// Why a text is not a table name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "invalid table name {text:?}: {reason}; write schema.table, with double quotes around names that hold a dot"
)]
pub struct TableNameError {
    text: String,
    reason: &'static str,
}

impl TableNameError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        "table-name"
    }
}

impl TableName {
    /// A table from its two parts, as they stand in the catalogue (no quotes).
    pub fn new(schema: &str, name: &str) -> Result<Self, TableNameError> {
        for part in [schema, name] {
            let reason = if part.is_empty() {
                "a part is empty"
            } else if part.len() > MAX_IDENTIFIER_BYTES {
                "a part is longer than 63 bytes"
            } else if part.contains('\0') {
                "it holds a NUL character"
            } else {
                continue;
            };
            return Err(TableNameError {
                text: format!("{schema}.{name}").chars().take(160).collect(),
                reason,
            });
        }
        Ok(Self {
            schema: schema.into(),
            name: name.into(),
        })
    }

    /// `public.rtx_activities`, the table of compatible mode.
    pub fn activities() -> Self {
        Self {
            schema: "public".into(),
            name: "rtx_activities".into(),
        }
    }

    /// Whether this is [`Self::activities`].
    pub fn is_activities(&self) -> bool {
        &*self.schema == "public" && &*self.name == "rtx_activities"
    }

    /// The schema, unquoted.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The table's own name, unquoted.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for TableName {
    type Err = TableNameError;

    /// `table`, `schema.table`, `"Odd.Name"`, `schema."Odd ""Name"""`. Without a schema, `public` is meant.
    fn from_str(text: &str) -> Result<Self, TableNameError> {
        let fail = |reason| TableNameError {
            text: text.chars().take(160).collect(),
            reason,
        };
        let mut parts: Vec<String> = Vec::with_capacity(2);
        let mut chars = text.trim().chars().peekable();
        loop {
            let mut part = String::new();
            if chars.peek() == Some(&'"') {
                chars.next();
                loop {
                    match chars.next() {
                        Some('"') if chars.peek() == Some(&'"') => {
                            chars.next();
                            part.push('"');
                        }
                        Some('"') => break,
                        Some(c) => part.push(c),
                        None => return Err(fail("a quote is not closed")),
                    }
                }
            } else {
                while let Some(c) = chars.next_if(|c| *c != '.' && *c != '"') {
                    part.push(c);
                }
            }
            parts.push(part);
            match chars.next() {
                None => break,
                Some('.') if parts.len() < 2 => {}
                Some('.') => return Err(fail("it has more than two parts")),
                Some(_) => return Err(fail("a quote stands in the middle of a name")),
            }
        }
        match parts.as_slice() {
            [name] => Self::new("public", name),
            [schema, name] => Self::new(schema, name),
            _ => Err(fail("it has more than two parts")),
        }
    }
}

impl fmt::Display for TableName {
    /// The form that parses back to the same name: parts are quoted only where they must be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (part, end) in [(&self.schema, "."), (&self.name, "")] {
            if part.contains(['.', '"']) || part.trim() != &**part {
                write!(f, "\"{}\"{end}", part.replace('"', "\"\""))?;
            } else {
                write!(f, "{part}{end}")?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for TableName {
    type Error = TableNameError;
    fn try_from(text: String) -> Result<Self, TableNameError> {
        text.parse()
    }
}

impl From<TableName> for String {
    fn from(table: TableName) -> Self {
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_usual_forms() {
        let parse = |text: &str| {
            text.parse::<TableName>()
                .map(|t| (t.schema().to_owned(), t.name().to_owned()))
        };
        let table = |schema: &str, name: &str| Ok((schema.to_owned(), name.to_owned()));
        assert_eq!(parse("orders"), table("public", "orders"));
        assert_eq!(parse("shop.orders"), table("shop", "orders"));
        assert_eq!(
            parse("\"My Schema\".\"Odd.\"\"Name\""),
            table("My Schema", "Odd.\"Name")
        );
        for bad in ["", "a.b.c", "a.", ".b", "\"open", "a\"b"] {
            assert!(parse(bad).is_err(), "{bad:?} should be refused");
        }
    }

    proptest! {
        #[test]
        fn display_parses_back(schema in "[^\\x00]{1,15}", name in "[^\\x00]{1,15}") {
            let table = TableName::new(&schema, &name).unwrap();
            prop_assert_eq!(table.to_string().parse::<TableName>().unwrap(), table);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            let _ = text.parse::<TableName>();
        }
    }
}
