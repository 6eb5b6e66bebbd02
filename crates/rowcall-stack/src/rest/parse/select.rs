//! `select`: columns, aggregates, embedded resources.

use super::ast::{Aggregate, ColumnItem, EmbedItem, Field, Join, SelectItem};
use super::cursor::{Cursor, ParseError, Parsed, parse_all};
use crate::rest::limits::{MAX_DEPTH, MAX_EMBEDS, MAX_SELECT_ITEMS};

/// How much of the limits is used up.
#[derive(Default)]
struct Budget {
    items: usize,
    embeds: usize,
}

/// Parses the value of `select`; blank selects nothing by name, which is all columns.
pub(super) fn parse_select(text: &str) -> Result<Vec<SelectItem>, ParseError> {
    parse_all("select parameter", text, |cursor| {
        cursor.skip_blanks();
        if cursor.at_end() {
            return Ok(Vec::new());
        }
        items(cursor, 0, &mut Budget::default())
    })
}

fn items(cursor: &mut Cursor<'_>, depth: usize, budget: &mut Budget) -> Parsed<Vec<SelectItem>> {
    let mut items = Vec::new();
    loop {
        budget.items += 1;
        if budget.items > MAX_SELECT_ITEMS {
            return cursor.fail("fewer items in select");
        }
        items.push(item(cursor, depth, budget)?);
        cursor.skip_blanks();
        if !cursor.eat(",") {
            return Ok(items);
        }
    }
}

fn item(cursor: &mut Cursor<'_>, depth: usize, budget: &mut Budget) -> Parsed<SelectItem> {
    cursor.skip_blanks();
    if cursor.eat("...") {
        let name = cursor.name()?;
        return embed(cursor, name, None, true, depth, budget);
    }
    if cursor.eat("*") {
        cursor.skip_blanks();
        return ends(cursor).map(|()| SelectItem::Column(ColumnItem::plain("*")));
    }
    let mut quoted = cursor.peek() == Some('"');
    let mut name = cursor.name()?;
    let mut alias = None;
    if cursor.rest().starts_with(':') && !cursor.rest().starts_with("::") {
        cursor.bump();
        cursor.skip_blanks();
        quoted = cursor.peek() == Some('"');
        alias = Some(std::mem::replace(&mut name, cursor.name()?));
    }
    if !quoted && name == "count" && cursor.eat("()") {
        return count(cursor, alias);
    }
    if matches!(cursor.peek(), Some('(' | '!')) {
        return embed(cursor, name, alias, false, depth, budget);
    }
    column(cursor, name, alias)
}

/// An item is followed by another or by the end of its list.
fn ends(cursor: &Cursor<'_>) -> Parsed<()> {
    match cursor.peek() {
        None | Some(',' | ')') => Ok(()),
        Some(_) => cursor.fail("\"->\", \"::\", \".\", \",\", \")\" or end of input"),
    }
}

fn count(cursor: &mut Cursor<'_>, alias: Option<String>) -> Parsed<SelectItem> {
    let aggregate_cast = optional_cast(cursor)?;
    cursor.skip_blanks();
    ends(cursor)?;
    Ok(SelectItem::Column(ColumnItem {
        field: Field::plain("*"),
        alias,
        cast: None,
        aggregate: Some(Aggregate::Count),
        aggregate_cast,
    }))
}

fn optional_cast(cursor: &mut Cursor<'_>) -> Parsed<Option<String>> {
    if cursor.eat("::") {
        cursor.type_name().map(Some)
    } else {
        Ok(None)
    }
}

fn column(cursor: &mut Cursor<'_>, name: String, alias: Option<String>) -> Parsed<SelectItem> {
    let path = cursor.json_path()?;
    let cast = optional_cast(cursor)?;
    let (mut aggregate, mut aggregate_cast) = (None, None);
    if cursor.eat(".") {
        aggregate = Some(aggregate_function(cursor)?);
        aggregate_cast = optional_cast(cursor)?;
    }
    cursor.skip_blanks();
    ends(cursor)?;
    Ok(SelectItem::Column(ColumnItem {
        field: Field { name, path },
        alias,
        cast,
        aggregate,
        aggregate_cast,
    }))
}

fn aggregate_function(cursor: &mut Cursor<'_>) -> Parsed<Aggregate> {
    for (name, function) in [
        ("sum()", Aggregate::Sum),
        ("avg()", Aggregate::Avg),
        ("count()", Aggregate::Count),
        ("min()", Aggregate::Min),
        ("max()", Aggregate::Max),
    ] {
        if cursor.eat(name) {
            return Ok(function);
        }
    }
    cursor.fail("sum(), avg(), count(), min() or max()")
}

fn embed(
    cursor: &mut Cursor<'_>,
    name: String,
    alias: Option<String>,
    spread: bool,
    depth: usize,
    budget: &mut Budget,
) -> Parsed<SelectItem> {
    budget.embeds += 1;
    if depth >= MAX_DEPTH || budget.embeds > MAX_EMBEDS {
        return cursor.fail("fewer or less deeply nested embedded resources");
    }
    let (mut hint, mut join) = (None, None);
    for _ in 0..2 {
        if !cursor.eat("!") {
            break;
        }
        let parameter = cursor.name()?;
        match parameter.as_str() {
            "inner" if join.is_none() => join = Some(Join::Inner),
            "left" if join.is_none() => join = Some(Join::Left),
            _ if hint.is_none() => hint = Some(parameter),
            _ => return cursor.fail("one hint and one of !inner and !left"),
        }
    }
    cursor.skip_blanks();
    cursor.expect("(")?;
    cursor.skip_blanks();
    let items = if cursor.peek() == Some(')') {
        Vec::new()
    } else {
        items(cursor, depth + 1, budget)?
    };
    cursor.skip_blanks();
    cursor.expect(")")?;
    cursor.skip_blanks();
    ends(cursor)?;
    Ok(SelectItem::Embed(EmbedItem {
        name,
        alias,
        hint,
        join,
        spread,
        items,
    }))
}
