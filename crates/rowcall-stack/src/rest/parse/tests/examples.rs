//! The grammar by example.

use super::super::ast::*;
use super::super::*;

pub(super) fn parse(query: &str) -> Query {
    parse_query(query, Target::Relation).unwrap_or_else(|error| panic!("{query}: {error:?}"))
}

fn column(name: &str) -> ColumnItem {
    ColumnItem::plain(name)
}

fn key(key: &str, as_text: bool) -> JsonStep {
    JsonStep {
        as_text,
        operand: JsonOperand::Key(key.to_owned()),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn select_by_example() {
    let one = |text: &str| match parse(&format!("select={text}")).select.as_slice() {
        [item] => item.clone(),
        other => panic!("{text}: {other:?}"),
    };
    let is =
        |text: &str, item: ColumnItem| assert_eq!(one(text), SelectItem::Column(item), "{text}");
    is("*", column("*"));
    is(" a b ", column("a b"));
    is("a-b", column("a-b"));
    is("\"a,b\\\"c\"", column("a,b\"c"));
    is("$a_1", column("$a_1"));
    is(
        "x:a",
        ColumnItem {
            alias: Some("x".into()),
            ..column("a")
        },
    );
    is(
        "a::text",
        ColumnItem {
            cast: Some("text".into()),
            ..column("a")
        },
    );
    is(
        "x:a::double precision",
        ColumnItem {
            alias: Some("x".into()),
            cast: Some("double precision".into()),
            ..column("a")
        },
    );
    is(
        "count()",
        ColumnItem {
            aggregate: Some(Aggregate::Count),
            ..column("*")
        },
    );
    is(
        "x:count()::int",
        ColumnItem {
            alias: Some("x".into()),
            aggregate: Some(Aggregate::Count),
            aggregate_cast: Some("int".into()),
            ..column("*")
        },
    );
    is(
        "a::int.sum()::text",
        ColumnItem {
            cast: Some("int".into()),
            aggregate: Some(Aggregate::Sum),
            aggregate_cast: Some("text".into()),
            ..column("a")
        },
    );
    is("count", column("count"));
    is(
        "a->b-c->>-1::int",
        ColumnItem {
            field: Field {
                name: "a".into(),
                path: vec![
                    key("b-c", false),
                    JsonStep {
                        as_text: true,
                        operand: JsonOperand::Index("-1".into()),
                    },
                ],
            },
            cast: Some("int".into()),
            ..column("a")
        },
    );
    is(
        "a->0b",
        ColumnItem {
            field: Field {
                name: "a".into(),
                path: vec![key("0b", false)],
            },
            ..column("a")
        },
    );
    let embed = |text: &str| match one(text) {
        SelectItem::Embed(embed) => embed,
        SelectItem::Column(column) => panic!("{text}: {column:?}"),
    };
    let plain = embed("a(*)");
    assert_eq!(
        (
            plain.name.as_str(),
            plain.alias,
            plain.hint,
            plain.join,
            plain.spread
        ),
        ("a", None, None, None, false)
    );
    for text in ["x:a!inner!h(b)", "x:a!h!inner(b)"] {
        let full = embed(text);
        assert_eq!(
            (full.alias.as_deref(), full.hint.as_deref(), full.join),
            (Some("x"), Some("h"), Some(Join::Inner)),
            "{text}"
        );
    }
    let spread = embed("...a!left(b,c:d(e))");
    assert_eq!(
        (spread.spread, spread.join, spread.items.len()),
        (true, Some(Join::Left), 2)
    );
    assert_eq!(embed("a()").items, []);
    assert_eq!(parse("select=").select, []);
}

#[test]
fn output_names_of_paths_are_their_last_key() {
    for (path, expected) in [
        (vec![key("a", false), key("b", true)], "b"),
        (
            vec![JsonStep {
                as_text: false,
                operand: JsonOperand::Index("0".into()),
            }],
            "data",
        ),
        (
            vec![
                JsonStep {
                    as_text: false,
                    operand: JsonOperand::Index("1".into()),
                },
                key("x", false),
                JsonStep {
                    as_text: true,
                    operand: JsonOperand::Index("2".into()),
                },
            ],
            "x",
        ),
    ] {
        let field = Field {
            name: "data".into(),
            path,
        };
        assert_eq!(field.path_alias(), Some(expected));
    }
}

#[test]
fn parameters_find_their_resource() {
    let query = parse(
        "a.b.id=eq.1&a.order=x.desc&limit=5&a.offset=2&a.limit=3&a.not.or=(x.eq.1,y.eq.2)&and=(z.is.null)",
    );
    assert_eq!(query.filters[0].0, ["a", "b"]);
    assert_eq!(query.orders[0].0, ["a"]);
    assert_eq!(
        query.root_window(),
        Window {
            limit: Some(5),
            offset: None
        }
    );
    assert_eq!(
        query.windows[1],
        (
            vec!["a".into()],
            Window {
                limit: Some(3),
                offset: Some(2)
            }
        )
    );
    assert!(
        matches!(&query.logic[0], (path, Logic::Group { negated: true, any: true, .. }) if path == &["a"])
    );
    assert!(
        matches!(&query.logic[1], (path, Logic::Group { negated: false, any: false, .. }) if path.is_empty())
    );
}

#[test]
fn decoding_follows_forms() {
    let query = parse("a+b=eq.c+d%2Be&flag&select=x&select=y");
    assert_eq!(query.filters[0].1.field.name, "a b");
    assert_eq!(
        query.filters[0].1.operation,
        Operation::Quantified(QuantOp::Eq, None, "c d+e".into())
    );
    assert_eq!(
        query.select.len(),
        1,
        "the first select wins, a key without = is no filter"
    );
    assert!(parse_query("a=eq.%00", Target::Relation).is_err());
    assert!(parse_query("a=eq.%ff", Target::Relation).is_err());
}

#[test]
fn functions_take_what_is_no_filter() {
    let query = parse_query(
        "a=1&b=eq.1&c=text&a=2&order=x&limit=1",
        Target::FunctionRead,
    )
    .expect("a query");
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        query.arguments,
        [pair("a", "1"), pair("c", "text"), pair("a", "2")]
    );
    assert_eq!(query.filters.len(), 1);
}

#[test]
fn lists_keep_quoted_commas() {
    let list = |text: &str| match &parse(&format!("a=in.{text}")).filters[0].1.operation {
        Operation::In(list) => list.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(list("(1,2)"), ["1", "2"]);
    assert_eq!(list("()"), Vec::<String>::new());
    assert_eq!(list("(\"a,b\",\"c\\\"d\",e f)"), ["a,b", "c\"d", "e f"]);
    assert_eq!(list("(a,)"), ["a", ""]);
}

#[test]
fn nesting_and_numbers_are_bounded() {
    let deep = format!("select={}a{}", "a(".repeat(100), ")".repeat(100));
    assert!(parse_query(&deep, Target::Relation).is_err());
    let deep = format!("or={}a.eq.1{}", "(and".repeat(100), ")".repeat(100));
    assert!(parse_query(&deep, Target::Relation).is_err());
    let many = vec!["a=eq.1"; 3_000].join("&");
    assert!(parse_query(&many, Target::Relation).is_err());
    let wide = format!("select={}", vec!["a"; 3_000].join(","));
    assert!(parse_query(&wide, Target::Relation).is_err());
}

// Round trip: what is printed by the rules of the grammar is read back as it was.
