//! Quoting. Every identifier and literal in a generated statement goes through here.

use std::borrow::Cow;

use rowcall_core::TableName;

/// A quoted identifier.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted `schema.table`.
pub(crate) fn qualified(table: &TableName) -> String {
    format!("{}.{}", ident(table.schema()), ident(table.name()))
}

/// A text literal that means the same under either setting of `standard_conforming_strings`. NUL cannot stand in SQL and is
/// refused where text comes in.
pub(crate) fn literal(text: &str) -> String {
    let doubled: Cow<'_, str> = if text.contains('\'') {
        text.replace('\'', "''").into()
    } else {
        text.into()
    };
    if doubled.contains('\\') {
        format!("e'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_and_texts_stay_inside_their_quotes() {
        assert_eq!(
            ident("a\"; drop table x; --"),
            "\"a\"\"; drop table x; --\""
        );
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\' or 1=1"), "e'\\\\'' or 1=1'");
        let table: TableName = "\"My.Schema\".\"t\"\"x\"".parse().unwrap();
        assert_eq!(qualified(&table), "\"My.Schema\".\"t\"\"x\"");
    }
}
