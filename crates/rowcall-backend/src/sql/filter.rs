//! Filters as SQL conditions over JSON.
//!
//! The meaning is `rowcall-core`'s ([`rowcall_core::filter`]); a property test holds this rendering to it, row by row, in a real
//! PostgreSQL. The comparison is chosen by the type of the row's value, so nothing here can raise on odd data.

use std::fmt::Write;

use rowcall_core::filter::{
    Condition, Expr, Filter, IsTest, Literal, Operator, Pattern, Test, Wildcard,
};

use super::quote::literal;

/// Where a column of the filtered row comes from.
pub(crate) enum Source {
    /// A `jsonb` expression that holds the whole row: the column is its member.
    Document(String),
    /// A `jsonb` expression that is the column.
    Value(String),
}

/// The condition as a SQL boolean expression, null where the filter is unknown.
pub(crate) fn render(filter: &Filter, source: &dyn Fn(&str) -> Source) -> String {
    expr(filter.expr(), source)
}

fn expr(expr_: &Expr, source: &dyn Fn(&str) -> Source) -> String {
    let joined = |all: &[Expr], word: &str| {
        let parts: Vec<String> = all.iter().map(|one| expr(one, source)).collect();
        format!("({})", parts.join(word))
    };
    match expr_ {
        Expr::Condition(condition) => self::condition(condition, source),
        Expr::And(all) => joined(all, " and "),
        Expr::Or(all) => joined(all, " or "),
        Expr::Not(inner) => format!("(not {})", expr(inner, source)),
    }
}

fn condition(condition: &Condition, source: &dyn Fn(&str) -> Source) -> String {
    let (base, steps) = match (source(&condition.path()[0]), condition.path()) {
        (Source::Document(base), path) => (base, path),
        (Source::Value(base), path) => (base, &path[1..]),
    };
    let value = if steps.is_empty() {
        base
    } else {
        let steps: Vec<String> = steps.iter().map(|step| literal(step)).collect();
        format!("({base} #> array[{}])", steps.join(", "))
    };
    match condition.test() {
        Test::Compare(operator, literal) => compare(&value, *operator, literal),
        Test::In(list) if list.is_empty() => "false".to_owned(),
        Test::In(list) => one_of(&value, list),
        Test::Is(is) => is_test(&value, *is),
        Test::Like { pattern, fold_case } => {
            let operator = if *fold_case { "ilike" } else { "like" };
            let pattern = literal(&like_pattern(pattern));
            format!(
                "(case jsonb_typeof({value}) when 'string' then {} {operator} {pattern} end)",
                text(&value)
            )
        }
    }
}

/// The text of a JSON string, compared by bytes.
fn text(value: &str) -> String {
    format!("({value} #>> '{{}}') collate \"C\"")
}

fn instant(value: &str) -> String {
    format!("rowcall.iso_instant({value} #>> '{{}}')")
}

fn compare(value: &str, operator: Operator, wanted: &Literal) -> String {
    let sql = operator.as_sql();
    let unlike = match operator {
        Operator::Eq => "false",
        Operator::Neq => "true",
        _ => "null::boolean",
    };
    let number = match wanted.number() {
        Some(number) => format!("{value}::numeric {sql} '{number}'::numeric"),
        None => unlike.to_owned(),
    };
    let boolean = match wanted.boolean() {
        Some(boolean) => format!("{value}::boolean {sql} {boolean}"),
        None => unlike.to_owned(),
    };
    let bytes = format!("{} {sql} {}", text(value), literal(wanted.text()));
    let string = match wanted.instant_micros() {
        Some(micros) => format!(
            "coalesce({} {sql} {micros}::bigint, {bytes})",
            instant(value)
        ),
        None => bytes,
    };
    by_type(value, &number, &boolean, &string, unlike)
}

fn one_of(value: &str, list: &[Literal]) -> String {
    let any = |found: Vec<String>, left: &str| {
        if found.is_empty() {
            "false".to_owned()
        } else {
            format!("{left} in ({})", found.join(", "))
        }
    };
    let numbers = list.iter().filter_map(Literal::number);
    let numbers = numbers
        .map(|number| format!("'{number}'::numeric"))
        .collect();
    let number = any(numbers, &format!("{value}::numeric"));
    let booleans = list.iter().filter_map(Literal::boolean);
    let boolean = any(
        booleans.map(|boolean| boolean.to_string()).collect(),
        &format!("{value}::boolean"),
    );
    let texts = list.iter().map(|one| literal(one.text())).collect();
    let mut string = any(texts, &text(value));
    let instants: Vec<String> = list
        .iter()
        .filter_map(Literal::instant_micros)
        .map(|micros| format!("{micros}::bigint"))
        .collect();
    if !instants.is_empty() {
        // Equal texts are equal instants, so it is enough that either holds.
        let _ = write!(
            string,
            " or coalesce({}, false)",
            any(instants, &instant(value))
        );
    }
    by_type(value, &number, &boolean, &string, "false")
}

/// Chooses by the type of the value; null and a missing value fall through to null.
fn by_type(value: &str, number: &str, boolean: &str, string: &str, other: &str) -> String {
    format!(
        "(case jsonb_typeof({value}) when 'number' then {number} when 'boolean' then {boolean} when 'string' then {string} \
         when 'array' then {other} when 'object' then {other} end)"
    )
}

fn is_test(value: &str, is: IsTest) -> String {
    match is {
        IsTest::Null | IsTest::Unknown => format!("coalesce(jsonb_typeof({value}) = 'null', true)"),
        IsTest::NotNull => format!("coalesce(jsonb_typeof({value}) <> 'null', false)"),
        IsTest::True => format!("coalesce({value} = 'true'::jsonb, false)"),
        IsTest::False => format!("coalesce({value} = 'false'::jsonb, false)"),
    }
}

/// The pattern in SQL's spelling, everything literal escaped that needs it.
fn like_pattern(pattern: &Pattern) -> String {
    let mut out = String::with_capacity(pattern.text().len());
    for part in pattern.parts() {
        match part {
            Wildcard::Any => out.push('%'),
            Wildcard::One => out.push('_'),
            Wildcard::Literal(c @ ('%' | '_' | '\\')) => out.extend(['\\', *c]),
            Wildcard::Literal(c) => out.push(*c),
        }
    }
    out
}
