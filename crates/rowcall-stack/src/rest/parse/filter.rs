//! Filters: `op.value`, and the logic groups of `and` and `or`.

use super::ast::{Field, Filter, FtsOp, IsValue, Logic, Operation, QuantOp, Quantifier, SimpleOp};
use super::cursor::{Cursor, ParseError, Parsed, parse_all};
use crate::rest::limits::{MAX_CONDITIONS, MAX_DEPTH};

/// What was wanted where no operator was found.
const OPERATOR: &str = "operator (eq, gt, ...)";

/// Parses the value of a filter parameter on `field`.
pub(super) fn parse_filter(field: Field, text: &str) -> Result<Filter, ParseError> {
    parse_all("filter", text, |cursor| {
        let (negated, operation) = condition(cursor, |cursor| cursor.rest_to_end().to_owned())?;
        Ok(Filter {
            field,
            negated,
            operation,
        })
    })
}

/// Parses the value of `and`, `or` and their negations: `(term,term)`.
pub(super) fn parse_logic(negated: bool, any: bool, text: &str) -> Result<Logic, ParseError> {
    parse_all("logic tree", text, |cursor| {
        let mut left = MAX_CONDITIONS;
        let terms = terms(cursor, 0, &mut left)?;
        Ok(Logic::Group {
            negated,
            any,
            terms,
        })
    })
}

fn terms(cursor: &mut Cursor<'_>, depth: usize, left: &mut usize) -> Parsed<Vec<Logic>> {
    if depth > MAX_DEPTH {
        return cursor.fail("less deeply nested groups");
    }
    cursor.skip_blanks();
    cursor.expect("(")?;
    let mut terms = Vec::new();
    loop {
        *left = match left.checked_sub(1) {
            Some(left) => left,
            None => return cursor.fail("fewer conditions"),
        };
        terms.push(term(cursor, depth, left)?);
        cursor.skip_blanks();
        if !cursor.eat(",") {
            break;
        }
    }
    cursor.expect(")")?;
    cursor.skip_blanks();
    Ok(terms)
}

fn term(cursor: &mut Cursor<'_>, depth: usize, left: &mut usize) -> Parsed<Logic> {
    cursor.skip_blanks();
    if let Ok((negated, any)) = cursor.attempt(group_head) {
        return Ok(Logic::Group {
            negated,
            any,
            terms: terms(cursor, depth + 1, left)?,
        });
    }
    let field = cursor.field()?;
    cursor.expect(".")?;
    let (negated, operation) = condition(cursor, logic_value)?;
    Ok(Logic::Filter(Filter {
        field,
        negated,
        operation,
    }))
}

/// `not.and` or the like, with the parenthesis next.
fn group_head(cursor: &mut Cursor<'_>) -> Parsed<(bool, bool)> {
    let negated = cursor.eat("not.");
    let any = if cursor.eat("and") {
        false
    } else if cursor.eat("or") {
        true
    } else {
        return cursor.fail("and or or");
    };
    cursor.skip_blanks();
    if cursor.peek() == Some('(') {
        Ok((negated, any))
    } else {
        cursor.fail("(")
    }
}

/// A value inside a group: quoted, an array literal, or anything up to `,` or `)`.
fn logic_value(cursor: &mut Cursor<'_>) -> String {
    if let Ok(value) = cursor.attempt(delimited_quoted) {
        return value;
    }
    if let Ok(value) = cursor.attempt(|cursor| {
        cursor.expect("{")?;
        let inner = cursor.take_while(|c| !matches!(c, '{' | '}'));
        cursor.expect("}")?;
        Ok(format!("{{{inner}}}"))
    }) {
        return value;
    }
    cursor.take_while(|c| !matches!(c, ',' | ')')).to_owned()
}

/// A quoted value that must be followed by `,`, `)` or the end.
fn delimited_quoted(cursor: &mut Cursor<'_>) -> Parsed<String> {
    let value = cursor.quoted()?;
    match cursor.peek() {
        None | Some(',' | ')') => Ok(value),
        Some(_) => cursor.fail(", or )"),
    }
}

/// `[not.]op[(modifier)].value`, the value read by `value`.
fn condition(
    cursor: &mut Cursor<'_>,
    value: impl FnOnce(&mut Cursor<'_>) -> String,
) -> Parsed<(bool, Operation)> {
    let negated = cursor.eat("not.");
    let start = cursor.clone();
    let name = cursor.take_while(|c| c.is_ascii_alphabetic());
    let operation = if let Some(op) = simple_op(name) {
        dot(cursor)?;
        Operation::Simple(op, value(cursor))
    } else if let Some(op) = quant_op(name) {
        let quantifier = if cursor.eat("(any)") {
            Some(Quantifier::Any)
        } else if cursor.eat("(all)") {
            Some(Quantifier::All)
        } else {
            None
        };
        dot(cursor)?;
        Operation::Quantified(op, quantifier, value(cursor))
    } else if let Some(op) = fts_op(name) {
        let config = fts_config(cursor)?;
        dot(cursor)?;
        Operation::Fts(op, config, value(cursor))
    } else {
        match name {
            "in" => {
                dot(cursor)?;
                Operation::In(list(cursor)?)
            }
            "is" => {
                dot(cursor)?;
                Operation::Is(is_value(cursor)?)
            }
            "isdistinct" => {
                dot(cursor)?;
                Operation::IsDistinct(value(cursor))
            }
            _ => return start.fail(OPERATOR),
        }
    };
    Ok((negated, operation))
}

fn dot(cursor: &mut Cursor<'_>) -> Parsed<()> {
    if cursor.eat(".") {
        Ok(())
    } else {
        cursor.fail("delimiter (.)")
    }
}

fn simple_op(name: &str) -> Option<SimpleOp> {
    Some(match name {
        "neq" => SimpleOp::Neq,
        "cs" => SimpleOp::Cs,
        "cd" => SimpleOp::Cd,
        "ov" => SimpleOp::Ov,
        "sl" => SimpleOp::Sl,
        "sr" => SimpleOp::Sr,
        "nxr" => SimpleOp::Nxr,
        "nxl" => SimpleOp::Nxl,
        "adj" => SimpleOp::Adj,
        _ => return None,
    })
}

fn quant_op(name: &str) -> Option<QuantOp> {
    Some(match name {
        "eq" => QuantOp::Eq,
        "gte" => QuantOp::Gte,
        "gt" => QuantOp::Gt,
        "lte" => QuantOp::Lte,
        "lt" => QuantOp::Lt,
        "like" => QuantOp::Like,
        "ilike" => QuantOp::Ilike,
        "match" => QuantOp::Match,
        "imatch" => QuantOp::Imatch,
        _ => return None,
    })
}

fn fts_op(name: &str) -> Option<FtsOp> {
    Some(match name {
        "fts" => FtsOp::Fts,
        "plfts" => FtsOp::Plfts,
        "phfts" => FtsOp::Phfts,
        "wfts" => FtsOp::Wfts,
        _ => return None,
    })
}

fn fts_config(cursor: &mut Cursor<'_>) -> Parsed<Option<String>> {
    if !cursor.eat("(") {
        return Ok(None);
    }
    let config = cursor.take_while(|c| c.is_alphanumeric() || c == '_');
    cursor.expect(")")?;
    Ok((!config.is_empty()).then(|| config.to_owned()))
}

fn is_value(cursor: &mut Cursor<'_>) -> Parsed<IsValue> {
    let start = cursor.clone();
    let word = cursor.take_while(|c| c.is_ascii_alphabetic() || c == '_');
    match word.to_ascii_lowercase().as_str() {
        "null" => Ok(IsValue::Null),
        "not_null" => Ok(IsValue::NotNull),
        "true" => Ok(IsValue::True),
        "false" => Ok(IsValue::False),
        "unknown" => Ok(IsValue::Unknown),
        _ => start.fail("isVal: (null, not_null, true, false, unknown)"),
    }
}

/// `(a,"b,c",d)`; `()` is the empty list.
fn list(cursor: &mut Cursor<'_>) -> Parsed<Vec<String>> {
    cursor.skip_blanks();
    cursor.expect("(")?;
    cursor.skip_blanks();
    let mut elements = Vec::new();
    if cursor.eat(")") {
        return Ok(elements);
    }
    loop {
        elements.push(match cursor.attempt(delimited_quoted) {
            Ok(element) => element,
            Err(_) => cursor.take_while(|c| !matches!(c, ',' | ')')).to_owned(),
        });
        if !cursor.eat(",") {
            break;
        }
    }
    cursor.expect(")")?;
    cursor.skip_blanks();
    Ok(elements)
}
