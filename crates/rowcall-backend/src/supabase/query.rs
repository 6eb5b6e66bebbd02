//! Conditions in PostgREST's spelling.
//!
//! Values are quoted wherever the grammar would take a character of theirs for its own; names are quoted always.

use rowcall_core::TableName;

/// The query of a request: parameters in the order they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds `name=value`; `name` is a column or a parameter such as `order`.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// Rows whose column equals a value.
    #[must_use]
    pub(crate) fn eq(self, column: &str, value: &str) -> Self {
        self.with(column, format!("eq.{value}"))
    }

    /// Rows for which all of these conditions hold; see [`Condition`].
    #[must_use]
    pub(crate) fn all(self, conditions: &[Condition]) -> Self {
        if conditions.is_empty() {
            return self;
        }
        let value = format!("({})", join(conditions));
        self.with("and", value)
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// A condition inside `and=(…)`, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition(String);

impl Condition {
    fn is(column: &str, test: &str) -> Self {
        Self(format!("{column}.{test}"))
    }

    pub(crate) fn null(column: &str) -> Self {
        Self::is(column, "is.null")
    }

    pub(crate) fn eq(column: &str, value: &str) -> Self {
        Self(format!("{column}.eq.{}", quoted(value)))
    }

    pub(crate) fn lt(column: &str, value: &str) -> Self {
        Self(format!("{column}.lt.{}", quoted(value)))
    }

    pub(crate) fn one_of<'a>(column: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        Self(format!("{column}.{}", one_of(values)))
    }

    /// A `text[]` column that does not hold the value; null holds nothing.
    pub(crate) fn lacks(column: &str, value: &str) -> Self {
        let array = quoted(&array(value));
        let lacks = Self(format!("{column}.not.cs.{array}"));
        Self::any(&[Self::null(column), lacks])
    }

    pub(crate) fn any(conditions: &[Self]) -> Self {
        Self(format!("or({})", join(conditions)))
    }

    pub(crate) fn all(conditions: &[Self]) -> Self {
        Self(format!("and({})", join(conditions)))
    }
}

fn join(conditions: &[Condition]) -> String {
    let texts: Vec<&str> = conditions.iter().map(|one| one.0.as_str()).collect();
    texts.join(",")
}

/// `in.("a","b")`, the operator with its list.
pub(crate) fn one_of<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let values: Vec<String> = values.into_iter().map(quoted).collect();
    format!("in.({})", values.join(","))
}

/// A value in double quotes, where quotes and backslashes are escaped.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// An array literal of one text.
fn array(value: &str) -> String {
    format!("{{{}}}", quoted(value))
}

/// The path of a table below `rest/v1`; its schema goes into a header.
pub(crate) fn table_path(table: &TableName) -> [&str; 3] {
    ["rest", "v1", table.name()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_quotes() {
        assert_eq!(
            Condition::eq("locked_by", r#"a",status.eq."x\"#).0,
            r#"locked_by.eq."a\",status.eq.\"x\\""#
        );
        assert_eq!(
            Condition::lacks("attempted_by", r#"m,"1"#).0,
            r#"or(attempted_by.is.null,attempted_by.not.cs."{\"m,\\\"1\"}")"#
        );
        assert_eq!(one_of(["1", "a b"]), r#"in.("1","a b")"#);
    }

    #[test]
    fn conditions_nest() {
        let query = Query::new().eq("id", "7").all(&[
            Condition::any(&[
                Condition::null("status"),
                Condition::one_of("status", ["pending", "failed"]),
            ]),
            Condition::lt("retry_count", "3"),
        ]);
        assert_eq!(
            query.pairs()[1].1,
            r#"(or(status.is.null,status.in.("pending","failed")),retry_count.lt."3")"#
        );
    }
}
