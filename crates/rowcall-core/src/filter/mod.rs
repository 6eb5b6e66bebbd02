//! Row conditions in PostgREST's filter syntax.
//!
//! `status=eq.pending`, `amount=gt.10&or=(priority.eq.high,tags->0.eq.urgent)`, `note=not.like.*draft*`. Several
//! conditions are joined by `&` or `,` and must all hold. A value with a separator, bracket or quote in it stands in
//! double quotes, where `\"` and `\\` are a quote and a backslash; a column name may be quoted likewise.
//!
//! # What a comparison means
//!
//! A filter is evaluated over the row **as JSON** (what `to_jsonb(row)` gives), in memory and in SQL alike, so both must
//! agree on every row. The type of the row's value decides:
//!
//! | the row's value | compared with the filter's text |
//! |---|---|
//! | missing or `null` | unknown, for every operator but `is` |
//! | number | as exact decimal, when the text is a number |
//! | boolean | as boolean (`false` < `true`), when the text is one |
//! | string, both ISO 8601 dates or times | as instants; without an offset, UTC is meant |
//! | other string | byte by byte (collation `"C"`) |
//! | array, object, or a number or boolean beside other text | not equal, neither less nor greater (unknown) |
//!
//! `->` and `->>` reach into JSON columns and mean the same here. `like` and `ilike` match strings only, with `*` or `%` for
//! any text and `_` for one character; `ilike` folds ASCII letters only, the one folding that every database agrees on.
//! `is` takes `null`, `not_null`, `true`, `false` and `unknown` (the same as `null`) and is never unknown itself. Conditions
//! combine as in SQL: a row matches when the whole is true, not when it is unknown.

mod ast;
mod compare;
mod evaluate;
mod instant;
mod parse;
mod pattern;
#[cfg(test)]
mod tests;

pub use ast::{Condition, Expr, IsTest, Operator, Test};
pub use compare::{Decimal, Literal};
pub use evaluate::Truth;
pub use parse::{FilterError, MAX_CONDITIONS, MAX_DEPTH, MAX_FILTER_BYTES, MAX_LIST, MAX_STEPS};
pub use pattern::{Pattern, Wildcard};

use crate::task::Payload;

/// A parsed condition on a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Expr);

impl Filter {
    /// Parses `column=operator.value` and its combinations.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(Self)
    }

    /// Whether the row, a JSON object, matches. Unknown is no match.
    pub fn matches(&self, row: &Payload) -> bool {
        self.evaluate(row) == Truth::True
    }

    /// The three-valued outcome for a row.
    pub fn evaluate(&self, row: &Payload) -> Truth {
        evaluate::evaluate(&self.0, row.raw())
    }

    /// The condition as a tree, for rendering it in another language.
    pub fn expr(&self) -> &Expr {
        &self.0
    }
}

impl std::str::FromStr for Filter {
    type Err = FilterError;
    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

impl std::fmt::Display for Filter {
    /// The canonical text, which parses back to the same filter.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.write_top(f)
    }
}
