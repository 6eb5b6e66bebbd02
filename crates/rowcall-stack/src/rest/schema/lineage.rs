//! Where the columns of views come from: read out of the parsed queries that PostgreSQL keeps of views.
//!
//! Each output of such a query says which column of which relation it shows unchanged (`:resorigtbl`, `:resorigcol`), also
//! through subqueries and joins. Following that through views upon views leads to tables, and so their keys to views.

use std::borrow::Cow;
use std::collections::HashMap;

use super::model::Name;

/// A view as the catalog keeps it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: Name,
    /// Its parsed query, in PostgreSQL's node format.
    pub query: String,
}

/// A table that views may show.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// Its name.
    pub name: Name,
    /// Its primary key.
    pub primary_key: Vec<String>,
    /// Its columns by number.
    pub columns: HashMap<i32, String>,
}

/// A relation that shows columns of a table under names of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Face {
    /// The view.
    pub view: Name,
    /// The table's columns and what the view calls them.
    pub columns: HashMap<String, String>,
    /// The place of the first of these columns in the view.
    first: usize,
}

impl Face {
    /// The view's names of `columns`, if it shows them all.
    pub(crate) fn rename(&self, columns: &[String]) -> Option<Vec<String>> {
        columns
            .iter()
            .map(|column| self.columns.get(column).cloned())
            .collect()
    }
}

/// One output of a query: its name and the column it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Output {
    number: i32,
    name: String,
    table: u32,
    column: i32,
}

/// The views that show each table.
pub(crate) fn faces(views: &[View], tables: &HashMap<u32, Table>) -> HashMap<Name, Vec<Face>> {
    let outputs: HashMap<u32, Vec<Output>> = views
        .iter()
        .map(|view| (view.oid, outputs(&view.query)))
        .collect();
    let mut faces: HashMap<Name, Vec<Face>> = HashMap::new();
    for view in views {
        let mut shown: HashMap<u32, Face> = HashMap::new();
        for (place, output) in outputs[&view.oid].iter().enumerate() {
            let Some((oid, column)) = origin(output, &outputs, tables) else {
                continue;
            };
            let face = shown.entry(oid).or_insert_with(|| Face {
                view: view.name.clone(),
                columns: HashMap::new(),
                first: place,
            });
            // What is shown twice is known by its first name.
            face.columns
                .entry(column)
                .or_insert_with(|| output.name.clone());
        }
        for (oid, face) in shown {
            faces
                .entry(tables[&oid].name.clone())
                .or_default()
                .push(face);
        }
    }
    faces
}

/// The primary key of each view: that of the first table whose whole key it shows.
pub(crate) fn view_keys(
    faces: &HashMap<Name, Vec<Face>>,
    tables: &HashMap<u32, Table>,
) -> HashMap<Name, Vec<String>> {
    let mut found: HashMap<Name, (usize, Vec<String>)> = HashMap::new();
    for table in tables
        .values()
        .filter(|table| !table.primary_key.is_empty())
    {
        for face in faces
            .get(&table.name)
            .map(Vec::as_slice)
            .unwrap_or_default()
        {
            let Some(key) = face.rename(&table.primary_key) else {
                continue;
            };
            let best = found
                .entry(face.view.clone())
                .or_insert_with(|| (face.first, key.clone()));
            if face.first < best.0 {
                *best = (face.first, key);
            }
        }
    }
    found
        .into_iter()
        .map(|(view, (_, key))| (view, key))
        .collect()
}

/// The table's column that an output shows, through any views between.
fn origin(
    output: &Output,
    outputs: &HashMap<u32, Vec<Output>>,
    tables: &HashMap<u32, Table>,
) -> Option<(u32, String)> {
    let (mut table, mut column) = (output.table, output.column);
    // Views cannot contain themselves, so this ends; the bound is for catalogs that lie.
    for _ in 0..64 {
        if let Some(found) = tables.get(&table) {
            return found.columns.get(&column).map(|name| (table, name.clone()));
        }
        let through = outputs
            .get(&table)?
            .iter()
            .find(|output| output.number == column)?;
        (table, column) = (through.table, through.column);
    }
    None
}

/// A piece of the node format.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    Word(Cow<'a, str>),
}

/// The outputs of the outermost query that show a column unchanged.
fn outputs(query: &str) -> Vec<Output> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut in_list = false;
    let mut key: Option<String> = None;
    let mut entry: HashMap<String, String> = HashMap::new();
    let mut rest = query;
    // ( { QUERY … :targetList ( { TARGETENTRY … } … ) … } ): the list opens at depth 2, an entry's words are at depth 4.
    while let Some(token) = next_token(&mut rest) {
        match token {
            Token::Open => depth += 1,
            Token::Close => {
                depth = depth.saturating_sub(1);
                if in_list && depth == 3 {
                    found.extend(output(&entry));
                    entry.clear();
                } else if in_list && depth == 2 {
                    break;
                }
            }
            Token::Word(word) if depth == 2 => in_list = word == ":targetList",
            Token::Word(word) if in_list && depth == 4 => match key.take() {
                _ if word.starts_with(':') => key = Some(word.into_owned()),
                Some(key) => drop(entry.insert(key, word.into_owned())),
                None => {}
            },
            Token::Word(_) => {}
        }
    }
    found
}

fn output(entry: &HashMap<String, String>) -> Option<Output> {
    let number = |key: &str| entry.get(key).and_then(|value| value.parse::<i64>().ok());
    let table = u32::try_from(number(":resorigtbl")?)
        .ok()
        .filter(|oid| *oid != 0)?;
    Some(Output {
        number: i32::try_from(number(":resno")?).ok()?,
        name: entry.get(":resname").filter(|name| *name != "<>")?.clone(),
        table,
        column: i32::try_from(number(":resorigcol")?).ok()?,
    })
}

/// Words end at blanks, braces and parentheses, unless a backslash is before them.
fn next_token<'a>(rest: &mut &'a str) -> Option<Token<'a>> {
    *rest = rest.trim_start();
    let first = rest.chars().next()?;
    if matches!(first, '(' | '{' | ')' | '}') {
        *rest = &rest[1..];
        return Some(if matches!(first, '(' | '{') {
            Token::Open
        } else {
            Token::Close
        });
    }
    let mut escaped = false;
    let end = rest
        .char_indices()
        .find(|(_, c)| {
            let ends = !escaped && (c.is_whitespace() || matches!(c, '(' | ')' | '{' | '}'));
            escaped = !escaped && *c == '\\';
            ends
        })
        .map_or(rest.len(), |(at, _)| at);
    let (word, after) = rest.split_at(end);
    *rest = after;
    if !word.contains('\\') {
        return Some(Token::Word(Cow::Borrowed(word)));
    }
    let mut plain = String::with_capacity(word.len());
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' {
            chars.next().unwrap_or(c)
        } else {
            c
        });
    }
    Some(Token::Word(Cow::Owned(plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_outermost_outputs_count() {
        let query = r"({QUERY :commandType 1 :rtable ({RTE :subquery {QUERY :targetList ({TARGETENTRY :expr {VAR :varno 1}
            :resno 1 :resname inner :resorigtbl 7 :resorigcol 7 :resjunk false})}}) :targetList ({TARGETENTRY :expr {VAR :varno 1
            :location 2} :resno 1 :resname i\ d :ressortgroupref 0 :resorigtbl 42 :resorigcol 3 :resjunk false} {TARGETENTRY :expr
            {CONST :constvalue 4 [ 1 0 0 0 ]} :resno 2 :resname computed :resorigtbl 0 :resorigcol 0 :resjunk false}) :override 0})";
        assert_eq!(
            outputs(query),
            [Output {
                number: 1,
                name: "i d".to_owned(),
                table: 42,
                column: 3
            }]
        );
    }

    #[test]
    fn nonsense_has_no_outputs() {
        for query in [
            "",
            "(",
            ")))",
            "({QUERY :targetList (",
            "({QUERY :targetList <>})",
            "\\",
            "({QUERY :targetList ({TARGETENTRY})})",
        ] {
            assert_eq!(outputs(query), [], "{query}");
        }
    }
}
