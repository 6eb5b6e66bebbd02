//! `order`, and lists of column names.

use super::ast::{Field, OrderTerm};
use super::cursor::{Cursor, ParseError, Parsed, parse_all};
use crate::rest::limits::MAX_CONDITIONS;

/// Parses the value of `order`.
pub(super) fn parse_order(text: &str) -> Result<Vec<OrderTerm>, ParseError> {
    parse_all("order", text, |cursor| {
        let mut terms = Vec::new();
        loop {
            if terms.len() >= MAX_CONDITIONS {
                return cursor.fail("fewer order terms");
            }
            terms.push(term(cursor)?);
            if !cursor.eat(",") {
                return Ok(terms);
            }
        }
    })
}

fn term(cursor: &mut Cursor<'_>) -> Parsed<OrderTerm> {
    let first = cursor.field()?;
    let (relation, field) = if first.path.is_empty() && cursor.eat("(") {
        let field = cursor.field()?;
        cursor.expect(")")?;
        (Some(first.name), field)
    } else {
        (None, first)
    };
    let mut order = OrderTerm {
        relation,
        field,
        descending: None,
        nulls_first: None,
    };
    if cursor.eat(".") {
        let start = cursor.clone();
        match cursor.take_while(|c| c.is_ascii_alphabetic()) {
            "asc" => order.descending = Some(false),
            "desc" => order.descending = Some(true),
            "nullsfirst" => order.nulls_first = Some(true),
            "nullslast" => order.nulls_first = Some(false),
            _ => return start.fail("asc, desc, nullsfirst or nullslast"),
        }
        if order.nulls_first.is_none() && cursor.eat(".") {
            let start = cursor.clone();
            match cursor.take_while(|c| c.is_ascii_alphabetic()) {
                "nullsfirst" => order.nulls_first = Some(true),
                "nullslast" => order.nulls_first = Some(false),
                _ => return start.fail("nullsfirst or nullslast"),
            }
        }
    }
    cursor.skip_blanks();
    Ok(order)
}

/// Parses `a,"b",c` of `columns` and `on_conflict`.
pub(super) fn parse_names(subject: &'static str, text: &str) -> Result<Vec<String>, ParseError> {
    parse_all(subject, text, |cursor| {
        let mut names = Vec::new();
        loop {
            let Field { name, .. } = {
                cursor.skip_blanks();
                let name = cursor.name()?;
                cursor.skip_blanks();
                Field::plain(name)
            };
            if !names.contains(&name) {
                names.push(name);
            }
            if !cursor.eat(",") {
                return Ok(names);
            }
        }
    })
}
