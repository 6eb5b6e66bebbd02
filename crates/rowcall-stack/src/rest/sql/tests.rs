//! What requests may do to SQL: names stay names, values stay values, whatever they hold.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::rest::body::Payload;
use crate::rest::parse::{Target, parse_query};
use crate::rest::plan::{Plan, Root, WriteKind, WriteRequest, plan_read, plan_write};
use crate::rest::schema::{Column, ForeignKey, Relation, SchemaCache, relate};

fn relation(name: &str, columns: &[(&str, &str)]) -> Relation {
    Relation {
        name: Name::new("public", name),
        kind: 'r',
        writable: 28,
        primary_key: vec!["id".to_owned()],
        columns: columns
            .iter()
            .map(|(name, type_name)| Column {
                name: (*name).to_owned(),
                type_name: (*type_name).to_owned(),
                base: (*type_name).to_owned(),
                default: None,
            })
            .collect(),
    }
}

fn cache() -> SchemaCache {
    let relations: HashMap<Name, Relation> = [
        relation(
            "items",
            &[
                ("id", "integer"),
                ("data", "jsonb"),
                ("owner", "integer"),
                ("we\"ird", "text"),
            ],
        ),
        relation("owners", &[("id", "integer"), ("name", "text")]),
    ]
    .into_iter()
    .map(|relation| (relation.name.clone(), relation))
    .collect();
    let keys = [ForeignKey {
        table: Name::new("public", "items"),
        foreign: Name::new("public", "owners"),
        constraint: "items_owner_fkey".to_owned(),
        columns: vec!["owner".to_owned()],
        foreign_columns: vec!["id".to_owned()],
        unique: false,
        in_primary_key: false,
    }];
    let relationships = relate(&keys, &HashMap::new(), &|schema| schema == "public");
    SchemaCache {
        relations,
        relationships,
        ..SchemaCache::default()
    }
}

const SHAPE: Shape = Shape {
    format: Format::Json,
    strip_nulls: false,
    total: Total::All,
    location: false,
};

/// The statement of a read, if the request makes sense.
fn read(cache: &SchemaCache, query: &str) -> Option<Sql> {
    let relation = &cache.relations[&Name::new("public", "items")];
    let root = Root {
        relation: Some(relation),
        name: &relation.name,
        written: false,
        takes_filters: true,
        max_rows: Some(1000),
        aggregates: true,
    };
    let query = parse_query(query, Target::Relation).ok()?;
    let node = plan_read(cache, root, &query).ok()?;
    Some(statement(&Plan::Read(node), SHAPE))
}

/// The statement of an insert, if the request makes sense.
fn insert(cache: &SchemaCache, query: &str, body: &str) -> Option<Sql> {
    let relation = &cache.relations[&Name::new("public", "items")];
    let root = Root {
        relation: Some(relation),
        name: &relation.name,
        written: true,
        takes_filters: false,
        max_rows: None,
        aggregates: false,
    };
    let query = parse_query(query, Target::Relation).ok()?;
    let mut node = plan_read(cache, root, &query).ok()?;
    let request = WriteRequest {
        kind: WriteKind::Insert,
        payload: Some(Payload::from_json(body.to_owned(), false).ok()?),
        ignore_duplicates: Some(false),
        defaults: true,
        representation: true,
        headers_only: false,
    };
    let plan = plan_write(relation, request, &query, &mut node).ok()?;
    Some(statement(&Plan::Write(plan, node), SHAPE))
}

/// The statement without what is quoted: what PostgreSQL reads as SQL proper.
fn unquoted(sql: &str) -> String {
    let mut rest = String::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                loop {
                    match chars.next() {
                        Some('"') if chars.peek() == Some(&'"') => drop(chars.next()),
                        Some('"') => break,
                        Some(_) => {}
                        None => panic!("a name does not end: {sql}"),
                    }
                }
                rest.push_str("\"\"");
            }
            '\'' => {
                let escapes = rest.ends_with('E');
                loop {
                    match chars.next() {
                        Some('\\') if escapes => drop(chars.next()),
                        Some('\'') if chars.peek() == Some(&'\'') => drop(chars.next()),
                        Some('\'') => break,
                        Some(_) => {}
                        None => panic!("a literal does not end: {sql}"),
                    }
                }
                rest.push_str("''");
            }
            _ => rest.push(c),
        }
    }
    rest
}

/// Nothing of a request reaches SQL proper but words of our own and type names.
fn assert_tame(sql: &Sql) {
    let proper = unquoted(sql.text());
    for forbidden in [";", "--", "/*", "\\", "\0", "drop", "DROP"] {
        assert!(!proper.contains(forbidden), "{forbidden:?} in {proper}");
    }
    assert!(proper.is_ascii(), "{proper}");
    assert_eq!(
        proper.matches('(').count(),
        proper.matches(')').count(),
        "{proper}"
    );
    let highest = sql.values().len();
    for number in 1..=highest {
        assert!(
            proper.contains(&format!("${number}")),
            "${number} in {proper}"
        );
    }
    // Within a name, as in `i$2`, it is no parameter.
    let stray = format!("${}", highest + 1);
    let is_parameter = |(at, _): (usize, &str)| {
        !proper[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_')
    };
    assert!(!proper.match_indices(&stray).any(is_parameter), "{proper}");
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,12}",
        Just("'; drop table items; --".to_owned()),
        Just("\\'; drop table items; --".to_owned()),
        Just("\"; drop table items; --".to_owned()),
        Just("\"\"\\\"'\\\\''".to_owned()),
        Just("/* */ drop".to_owned()),
        Just("$1)$$drop$$".to_owned()),
    ]
}

fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

proptest! {
    #[test]
    fn names_of_requests_stay_names(a in hostile(), b in hostile(), c in hostile()) {
        let cache = cache();
        let query = [
            format!("select={}", encode(&format!("{}:{}->{},id,owners({})", name(&a), name(&b), name(&c), name(&a)))),
            format!("{}=eq.1", encode(&format!("{}->>{}", name(&b), name(&c)))),
            format!("order={}", encode(&format!("{}.desc,owners({})", name(&c), name(&b)))),
            format!("or={}", encode(&format!("({}.is.null,id.eq.1)", name(&a)))),
        ]
        .join("&");
        if let Some(sql) = read(&cache, &query) {
            assert_tame(&sql);
        }
    }

    #[test]
    fn values_change_nothing_of_the_text(value in hostile(), other in hostile()) {
        let cache = cache();
        let query = |value: &str| {
            [
                format!("id={}", encode(&format!("eq.{value}"))),
                format!("id={}", encode(&format!("isdistinct.{value}"))),
                format!("id={}", encode(&format!("in.({},x)", name(value)))),
                format!("name={}", encode(&format!("like(any).{value}"))),
                format!("data->>x={}", encode(&format!("not.cs.{value}"))),
                format!("we={}", encode(&format!("plfts.{value}"))),
                "owners.id=gt.1&select=id,owners!inner(name)&limit=3&offset=1".to_owned(),
            ]
            .join("&")
        };
        let sql = read(&cache, &query(&value)).expect("a statement");
        assert_tame(&sql);
        let same = read(&cache, &query(&other)).expect("a statement");
        prop_assert_eq!(sql.text(), same.text());
        prop_assert!(sql.values().contains(&TextValue(Some(value))));
    }

    #[test]
    fn bodies_are_one_value(value in hostile(), key in prop_oneof![Just("id".to_owned()), Just("we\"ird".to_owned())]) {
        let cache = cache();
        let body = serde_json::json!([{key: value}]).to_string();
        let sql = insert(&cache, "select=id,owners(name)", &body).expect("a statement");
        assert_tame(&sql);
        prop_assert_eq!(sql.values(), &[TextValue(Some(body))][..]);
    }

    #[test]
    fn types_of_requests_cannot_leave_their_place(cast in "[a-z0-9_$ ;'\"()\\\\-]{1,20}") {
        let cache = cache();
        if let Some(sql) = read(&cache, &format!("select={}", encode(&format!("id::{cast}")))) {
            assert_tame(&sql);
        }
    }

    #[test]
    fn quoting_is_undone_by_postgres_rules(text in "\\PC{0,20}") {
        let mut ident = Sql::default();
        ident.ident(&text);
        prop_assert_eq!(ident.text()[1..ident.text().len() - 1].replace("\"\"", "\""), text.clone());
        let mut literal = Sql::default();
        literal.literal(&text);
        let inner = literal.text().trim_start_matches('E');
        let inner = inner[1..inner.len() - 1].replace("''", "'");
        let inner = if literal.text().starts_with('E') { inner.replace("\\\\", "\\") } else { inner };
        prop_assert_eq!(inner, text);
    }

    #[test]
    fn nonsense_makes_no_strange_statement(raw in "[a-z0-9\"'\\\\.,:;()!>*{}=&-]{0,60}") {
        if let Some(sql) = read(&cache(), &raw) {
            assert_tame(&sql);
        }
    }
}

#[test]
fn a_read_looks_as_expected() {
    let sql = read(
        &cache(),
        "select=id,owners!inner(name)&id=eq.1&order=id.desc&limit=2",
    )
    .expect("a statement");
    insta::assert_snapshot!(sql.text());
}

#[test]
fn an_upsert_looks_as_expected() {
    let sql = insert(&cache(), "select=id", r#"{"id": 1, "owner": 2}"#).expect("a statement");
    insta::assert_snapshot!(sql.text());
}
