//! The query string grammar: text in, [`Query`] out. Pure, and never trusts its input.

pub(crate) mod ast;
mod cursor;
mod filter;
mod order;
mod select;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use self::ast::{EmbedPath, Field, Query, Window};
pub(crate) use self::cursor::ParseError;
use self::cursor::parse_all;
use super::limits::MAX_CONDITIONS;

/// Whether the parameters that are no filters are arguments of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A table, a view, or a function called by POST: every other parameter is a filter.
    Relation,
    /// A function called by GET: what does not read as `op.value` is an argument.
    FunctionRead,
}

/// What is encoded in `Content-Location`: everything but what stays readable in a query.
const QUERY_VALUE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'=')
    .add(b'`');

/// Parses a raw query string, without the question mark.
///
/// # Errors
/// The first parameter that does not follow its grammar, or that is not UTF-8 or holds a NUL.
pub(crate) fn parse_query(raw: &str, target: Target) -> Result<Query, ParseError> {
    let pairs = decode(raw)?;
    let mut query = Query {
        canonical: canonical(&pairs),
        ..Query::default()
    };
    let first = |name: &str| {
        pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };

    if let Some(select) = first("select") {
        query.select = select::parse_select(select)?;
    }
    if let Some(columns) = first("columns").filter(|columns| !columns.is_empty()) {
        query.columns = Some(order::parse_names("columns parameter", columns)?);
    }
    if let Some(columns) = first("on_conflict").filter(|columns| !columns.is_empty()) {
        query.on_conflict = Some(order::parse_names("on_conflict parameter", columns)?);
    }
    for (key, value) in &pairs {
        if matches!(key.as_str(), "select" | "columns" | "on_conflict") {
            continue;
        }
        parameter(&mut query, key, value, target)?;
        if query.filters.len() + query.logic.len() + query.orders.len() + query.windows.len()
            > MAX_CONDITIONS
        {
            return Err(too_many(key));
        }
    }
    Ok(query)
}

fn parameter(query: &mut Query, key: &str, value: &str, target: Target) -> Result<(), ParseError> {
    let last = key.rsplit('.').next().unwrap_or(key);
    match last {
        "order" => query
            .orders
            .push((embed_path(key)?, order::parse_order(value)?)),
        "limit" => window(query, embed_path(key)?).limit = value.trim().parse().ok(),
        "offset" => window(query, embed_path(key)?).offset = value.trim().parse().ok(),
        "and" | "or" => {
            let mut path = parse_path("logic path", key)?;
            path.pop();
            let negated = path.last().is_some_and(|name| name == "not");
            if negated {
                path.pop();
            }
            query
                .logic
                .push((path, filter::parse_logic(negated, last == "or", value)?));
        }
        _ => match target {
            Target::Relation => {
                let (path, field) = filter_key(key)?;
                query
                    .filters
                    .push((path, filter::parse_filter(field, value)?));
            }
            Target::FunctionRead => {
                // As upstream: what reads as a filter is one, whatever the function's parameters are called.
                match filter_key(key)
                    .and_then(|(path, field)| Ok((path, filter::parse_filter(field, value)?)))
                {
                    Ok(filter) => query.filters.push(filter),
                    Err(_) => query.arguments.push((key.to_owned(), value.to_owned())),
                }
            }
        },
    }
    Ok(())
}

/// The window of `path`, made when it is not there yet.
fn window(query: &mut Query, path: EmbedPath) -> &mut Window {
    let at = query
        .windows
        .iter()
        .position(|(known, _)| *known == path)
        .unwrap_or_else(|| {
            query.windows.push((path, Window::default()));
            query.windows.len() - 1
        });
    &mut query.windows[at].1
}

/// `a.b.order` → `[a, b]`.
fn embed_path(key: &str) -> Result<EmbedPath, ParseError> {
    let mut path = parse_path("tree path", key)?;
    path.pop();
    Ok(path)
}

fn parse_path(subject: &'static str, key: &str) -> Result<EmbedPath, ParseError> {
    parse_all(subject, key, |cursor| {
        let mut path = vec![cursor.name()?];
        while cursor.eat(".") {
            path.push(cursor.name()?);
        }
        Ok(path)
    })
}

/// `a.b.column->path` → `([a, b], column->path)`.
fn filter_key(key: &str) -> Result<(EmbedPath, Field), ParseError> {
    parse_all("tree path", key, |cursor| {
        let mut path = vec![cursor.name()?];
        while cursor.eat(".") {
            path.push(cursor.name()?);
        }
        let json = cursor.json_path()?;
        let name = path.pop().expect("at least one name was read");
        Ok((path, Field { name, path: json }))
    })
}

/// Form decoding: `+` is a blank. A key without `=` is no parameter.
fn decode(raw: &str) -> Result<Vec<(String, String)>, ParseError> {
    let mut pairs = Vec::new();
    for part in raw.split('&') {
        if let Some((key, value)) = part.split_once('=') {
            pairs.push((decode_part(key)?, decode_part(value)?));
            if pairs.len() > MAX_CONDITIONS {
                return Err(too_many(&pairs[0].0));
            }
        }
    }
    Ok(pairs)
}

fn decode_part(raw: &str) -> Result<String, ParseError> {
    let spaced = raw.replace('+', " ");
    let refused = |expected: &str| ParseError {
        subject: "query string",
        input: raw.to_owned(),
        column: 1,
        expected: expected.to_owned(),
    };
    let text = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| refused("expecting UTF-8"))?;
    if text.contains('\0') {
        return Err(refused("expecting no NUL character"));
    }
    Ok(text.into_owned())
}

fn too_many(key: &str) -> ParseError {
    ParseError {
        subject: "query string",
        input: key.to_owned(),
        column: 1,
        expected: format!("expecting at most {MAX_CONDITIONS} parameters"),
    }
}

/// The same parameters in the order of their keys.
fn canonical(pairs: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort();
    let encode = |text: &str| utf8_percent_encode(text, QUERY_VALUE).to_string();
    sorted
        .iter()
        .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
mod tests;
