//! From a plan to one SQL statement.
//!
//! This is the only place where text becomes SQL. Names go through [`Sql::ident`], values become parameters in text
//! format, JSON keys and literals from the catalog go through [`Sql::literal`]; everything else is `&'static str`, a
//! checked type name, or SQL that PostgreSQL itself printed. The statement's text depends on the shape of a request only,
//! so that prepared statements are found again.

mod answer;
mod call;
mod condition;
mod join;
mod read;
mod write;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{self, IsNull, ToSql, Type, to_sql_checked};

pub(crate) use answer::{Format, Shape, Total, statement};
pub(crate) use read::count_statement;

use super::schema::Name;

/// The name of the common table expression that writes or calls.
pub(super) const SOURCE: &str = "pgrst_source";

/// A statement under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sql {
    text: String,
    values: Vec<TextValue>,
}

impl Sql {
    /// The statement's text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The parameters, `$1` first.
    pub(crate) fn values(&self) -> &[TextValue] {
        &self.values
    }

    /// Adds SQL that no request can influence.
    pub(super) fn raw(&mut self, sql: &'static str) -> &mut Self {
        self.text.push_str(sql);
        self
    }

    /// Adds a number.
    pub(super) fn number(&mut self, number: usize) -> &mut Self {
        self.text.push_str(&number.to_string());
        self
    }

    /// Adds a name, always quoted. A NUL ends it, as PostgreSQL would.
    pub(in crate::rest) fn ident(&mut self, name: &str) -> &mut Self {
        self.text.push('"');
        for c in name.chars().take_while(|c| *c != '\0') {
            if c == '"' {
                self.text.push('"');
            }
            self.text.push(c);
        }
        self.text.push('"');
        self
    }

    /// Adds a name with its schema.
    pub(super) fn name(&mut self, name: &Name) -> &mut Self {
        self.ident(&name.schema).raw(".").ident(&name.name)
    }

    /// Adds names, separated by commas.
    pub(super) fn idents<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> &mut Self {
        for (i, name) in names.into_iter().enumerate() {
            if i > 0 {
                self.raw(", ");
            }
            self.ident(name);
        }
        self
    }

    /// Adds a text as a literal, safe whatever `standard_conforming_strings` says.
    pub(super) fn literal(&mut self, value: &str) -> &mut Self {
        self.text
            .push_str(if value.contains('\\') { "E'" } else { "'" });
        for c in value.chars().take_while(|c| *c != '\0') {
            if matches!(c, '\'' | '\\') {
                self.text.push(c);
            }
            self.text.push(c);
        }
        self.text.push('\'');
        self
    }

    /// Adds a value as a parameter.
    pub(super) fn value(&mut self, value: impl Into<String>) -> &mut Self {
        self.values.push(TextValue(Some(value.into())));
        self.text.push('$');
        self.number(self.values.len())
    }

    /// Adds a type name of a request; anything but ASCII letters, digits, `_`, `$` and blanks is dropped.
    pub(super) fn cast_type(&mut self, name: &str) -> &mut Self {
        self.text.extend(
            name.chars()
                .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | ' ')),
        );
        self
    }

    /// Adds SQL that PostgreSQL printed: a type, a default.
    pub(super) fn catalog(&mut self, sql: &str) -> &mut Self {
        self.text.push_str(sql);
        self
    }

    /// Puts `prefix` in front of the statement.
    pub(crate) fn prefixed(mut self, prefix: &str) -> Self {
        self.text.insert_str(0, prefix);
        self
    }
}

/// A parameter sent as text; PostgreSQL infers the type, so any column type works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextValue(pub Option<String>);

impl ToSql for TextValue {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            Some(value) => {
                out.put_slice(value.as_bytes());
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> types::Format {
        types::Format::Text
    }

    to_sql_checked!();
}

/// An array literal of texts, for `= any($1)`.
pub(in crate::rest) fn array_literal<'a>(elements: impl IntoIterator<Item = &'a str>) -> String {
    let mut literal = String::from("{");
    for (i, element) in elements.into_iter().enumerate() {
        if i > 0 {
            literal.push(',');
        }
        literal.push('"');
        for c in element.chars() {
            if matches!(c, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(c);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

#[cfg(test)]
mod tests;
