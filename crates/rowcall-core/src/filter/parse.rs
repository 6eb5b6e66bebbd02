//! Reading a filter.

use super::{
    ast::{Condition, Expr, IsTest, Operator, Test},
    compare::Literal,
    pattern::Pattern,
};

/// A filter is at most this long, in bytes.
pub const MAX_FILTER_BYTES: usize = 8 * 1024;
/// `and` and `or` nest at most this deep.
pub const MAX_DEPTH: usize = 16;
/// A filter holds at most this many conditions.
pub const MAX_CONDITIONS: usize = 128;
/// `in` takes at most this many values.
pub const MAX_LIST: usize = 1000;
/// A path goes at most this many steps into JSON.
pub const MAX_STEPS: usize = 16;

/// Operators of PostgREST that are not served, so that the answer is not "unknown".
const UNSUPPORTED: [&str; 18] = [
    "match",
    "imatch",
    "isdistinct",
    "fts",
    "plfts",
    "phfts",
    "wfts",
    "cs",
    "cd",
    "ov",
    "sl",
    "sr",
    "nxr",
    "nxl",
    "adj",
    "all",
    "any",
    "contains",
];

/// Why a text is not a filter, and where it stops being one.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid filter, at character {at}{}: {reason}", near.as_deref().map(|near| format!(" ({near:?})")).unwrap_or_default())]
pub struct FilterError {
    /// The character where reading stopped, counted from 1.
    pub at: usize,
    /// The text from there on, cut short; `None` at the end.
    pub near: Option<String>,
    /// What is wrong and what to write instead.
    pub reason: String,
}

impl FilterError {
    /// Stable name of the kind of failure; its page is `docs/errors/<code>.md`.
    pub fn code(&self) -> &'static str {
        "filter"
    }
}

pub(super) fn parse(text: &str) -> Result<Expr, FilterError> {
    let mut parser = Parser {
        text,
        at: 0,
        conditions: 0,
    };
    if text.len() > MAX_FILTER_BYTES {
        return Err(parser.fail(format!(
            "it is {} bytes long, at most {MAX_FILTER_BYTES} are allowed",
            text.len()
        )));
    }
    if let Some(nul) = text.find('\0') {
        parser.at = nul;
        return Err(parser.fail("it holds a NUL character, which no row can hold"));
    }
    parser.skip_space();
    if parser.rest().is_empty() {
        return Err(parser.fail("it is empty; leave it out to match every row"));
    }
    let mut all = Vec::new();
    loop {
        all.push(parser.condition(0)?);
        parser.skip_space();
        if parser.rest().is_empty() {
            return Ok(only_or(all, Expr::And));
        }
        if !parser.eat(",") && !parser.eat("&") {
            return Err(parser.fail(
                "expected \"&\" or \",\" before the next condition; a value with such characters in it must stand in double \
                 quotes",
            ));
        }
    }
}

/// `Expr::And` or `Expr::Or`.
type Combine = fn(Vec<Expr>) -> Expr;

/// One expression stays as it is, several are combined.
fn only_or(mut all: Vec<Expr>, combine: Combine) -> Expr {
    match all.pop() {
        Some(only) if all.is_empty() => only,
        Some(last) => {
            all.push(last);
            combine(all)
        }
        None => combine(all),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    conditions: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fail(&self, reason: impl Into<String>) -> FilterError {
        let near: String = self.rest().chars().take(24).collect();
        FilterError {
            at: self.text[..self.at].chars().count() + 1,
            near: (!near.is_empty()).then_some(near),
            reason: reason.into(),
        }
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes everything up to the first of `ends`.
    fn take_until(&mut self, ends: &[char]) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    /// `column=op.value`, `and(…)`, `or(…)` and their negations. Inside brackets `depth` is above 0.
    fn condition(&mut self, depth: usize) -> Result<Expr, FilterError> {
        self.skip_space();
        if let Some((negated, combine)) = self.logic_head() {
            let group = self.group(depth + 1, combine)?;
            return Ok(if negated { negate(group) } else { group });
        }
        if self.conditions == MAX_CONDITIONS {
            return Err(self.fail(format!("it has more than {MAX_CONDITIONS} conditions")));
        }
        self.conditions += 1;
        let path = self.path()?;
        if !self.eat("=") && !self.eat(".") {
            return Err(self.fail(
                "expected \"=\" and an operator after the column, as in \"status=eq.pending\"; a value with a comma in it must stand in double quotes",
            ));
        }
        let negated = self.eat("not.");
        let test = self.test(depth)?;
        let condition = Expr::Condition(Condition { path, test });
        Ok(if negated {
            negate(condition)
        } else {
            condition
        })
    }

    /// Reads `and(`, `or=(`, `not.and(` and so on, or nothing at all.
    fn logic_head(&mut self) -> Option<(bool, Combine)> {
        let start = self.at;
        let negated = self.eat("not.");
        let combine: Option<Combine> = if self.eat("and") {
            Some(Expr::And)
        } else if self.eat("or") {
            Some(Expr::Or)
        } else {
            None
        };
        self.eat("=");
        match combine {
            Some(combine) if self.eat("(") => Some((negated, combine)),
            _ => {
                self.at = start;
                None
            }
        }
    }

    fn group(&mut self, depth: usize, combine: Combine) -> Result<Expr, FilterError> {
        if depth > MAX_DEPTH {
            return Err(self.fail(format!("and/or are nested more than {MAX_DEPTH} deep")));
        }
        let mut all = Vec::new();
        loop {
            all.push(self.condition(depth)?);
            self.skip_space();
            if self.eat(")") {
                return Ok(only_or(all, combine));
            }
            if !self.eat(",") {
                return Err(self.fail("expected \",\" or \")\" after a condition in brackets"));
            }
        }
    }

    fn path(&mut self) -> Result<Vec<Box<str>>, FilterError> {
        let mut path = vec![self.name("a column name")?];
        loop {
            let last = self.eat("->>");
            if !last && !self.eat("->") {
                return Ok(path);
            }
            if path.len() > MAX_STEPS {
                return Err(self.fail(format!("the path has more than {MAX_STEPS} steps")));
            }
            path.push(self.name("a key or an index after the arrow")?);
            if last {
                return Ok(path);
            }
        }
    }

    fn name(&mut self, what: &str) -> Result<Box<str>, FilterError> {
        if self.rest().starts_with('"') {
            return self.quoted().map(Into::into);
        }
        let rest = self.rest();
        let end = rest
            .find(['=', '.', ',', '&', '(', ')', '"'])
            .unwrap_or(rest.len());
        let name = &rest[..end];
        let name = name.split("->").next().unwrap_or(name);
        if name.trim().is_empty() {
            return Err(self.fail(format!(
                "expected {what}; one with special characters in it must stand in double quotes"
            )));
        }
        self.at += name.len();
        Ok(name.trim_end().into())
    }

    fn test(&mut self, depth: usize) -> Result<Test, FilterError> {
        let start = self.at;
        let rest = self.rest();
        let length = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let name = &rest[..length];
        self.at += length;
        let known = Operator::ALL.iter().find(|(_, known, _)| *known == name);
        if known.is_none() && !matches!(name, "in" | "is" | "like" | "ilike") {
            self.at = start;
            return Err(self.fail(unknown_operator(name)));
        }
        if !self.eat(".") {
            return Err(self.fail(format!("expected \".\" and a value after \"{name}\"")));
        }
        if let Some((operator, ..)) = known {
            return Ok(Test::Compare(*operator, Literal::new(self.value(depth)?)));
        }
        match name {
            "in" => self.list(depth).map(Test::In),
            "is" => self.is_test(depth).map(Test::Is),
            _ => {
                let fold_case = name == "ilike";
                let from = self.at;
                let text = self.value(depth)?;
                let Some(pattern) = Pattern::new(text) else {
                    self.at = from;
                    return Err(self.fail("the pattern ends with a lone backslash; write two"));
                };
                Ok(Test::Like { pattern, fold_case })
            }
        }
    }

    fn is_test(&mut self, depth: usize) -> Result<IsTest, FilterError> {
        let start = self.at;
        let word = self.value(depth)?;
        let found = IsTest::ALL
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(&word));
        found.map(|(is, _)| *is).ok_or_else(|| {
            self.at = start;
            self.fail(
                "\"is\" takes null, not_null, true, false or unknown; use \"eq\" to compare values",
            )
        })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Literal>, FilterError> {
        if !self.eat("(") {
            return Err(
                self.fail("\"in\" takes a list in brackets, as in \"status=in.(pending,failed)\"")
            );
        }
        let mut list = Vec::new();
        self.skip_space();
        if self.eat(")") {
            return Ok(list);
        }
        loop {
            if list.len() == MAX_LIST {
                return Err(self.fail(format!("the list has more than {MAX_LIST} values")));
            }
            list.push(Literal::new(self.value(depth + 1)?));
            if self.eat(")") {
                return Ok(list);
            }
            if !self.eat(",") {
                return Err(self.fail("the list is not closed with \")\""));
            }
        }
    }

    /// A value: quoted, or up to the next separator, without spaces around it.
    fn value(&mut self, depth: usize) -> Result<String, FilterError> {
        self.skip_space();
        let ends: &[char] = if depth == 0 { &[',', '&'] } else { &[',', ')'] };
        if !self.rest().starts_with('"') {
            return Ok(self.take_until(ends).trim_end().to_owned());
        }
        let value = self.quoted()?;
        self.skip_space();
        if self.rest().is_empty() || self.rest().starts_with(ends) {
            Ok(value)
        } else {
            Err(self.fail("there is text behind the closing quote; a quote inside a quoted value is written \\\""))
        }
    }

    fn quoted(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        let mut value = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += offset + 1;
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, escaped)) => value.push(escaped),
                    None => break,
                },
                c => value.push(c),
            }
        }
        self.at = start;
        Err(self.fail("this quote is not closed"))
    }
}

/// Negating twice gives back what was.
fn negate(expr: Expr) -> Expr {
    match expr {
        Expr::Not(inner) => *inner,
        other => Expr::Not(Box::new(other)),
    }
}

fn unknown_operator(name: &str) -> String {
    const KNOWN: &str =
        "eq, neq, gt, gte, lt, lte, in, is, like, ilike, each also with not. before it";
    if UNSUPPORTED.contains(&name) {
        return format!("the operator \"{name}\" is not supported here; there are {KNOWN}");
    }
    if name.is_empty() {
        return format!("expected an operator; there are {KNOWN}");
    }
    let name: String = name.chars().take(24).collect();
    format!("unknown operator \"{name}\"; there are {KNOWN}. A plain value needs \"eq.\" before it")
}
