//! The grammar by example, by round trip, and against nonsense.

use proptest::prelude::*;

use super::ast::*;
use super::*;

fn parse(query: &str) -> Query {
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

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_$][a-z0-9_$]{0,6}(-[a-z]{1,3})?".prop_filter("reserved", |name| !matches!(
            name.as_str(),
            "select"
                | "columns"
                | "order"
                | "limit"
                | "offset"
                | "and"
                | "or"
                | "not"
                | "count"
                | "inner"
                | "left"
        )),
        "\\PC{1,8}".prop_filter("parameters end with reserved words", |name| {
            !matches!(
                name.as_str(),
                "order" | "limit" | "offset" | "and" | "or" | "inner" | "left"
            ) && !name.contains('.')
        }),
    ]
}

fn print_name(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn any_field() -> impl Strategy<Value = Field> {
    let step = (
        any::<bool>(),
        prop_oneof![
            any_name().prop_map(JsonOperand::Key),
            "-?[0-9]{1,9}".prop_map(JsonOperand::Index)
        ],
    )
        .prop_map(|(as_text, operand)| JsonStep { as_text, operand });
    (any_name(), prop::collection::vec(step, 0..3)).prop_map(|(name, path)| Field { name, path })
}

fn print_field(field: &Field) -> String {
    let mut text = print_name(&field.name);
    for step in &field.path {
        text.push_str(if step.as_text { "->>" } else { "->" });
        match &step.operand {
            JsonOperand::Key(key) => text.push_str(&print_name(key)),
            JsonOperand::Index(index) => text.push_str(index),
        }
    }
    text
}

fn any_item() -> impl Strategy<Value = SelectItem> {
    let word = "[a-z][a-z0-9_]{0,5}";
    let column = (
        any_field(),
        prop::option::of(any_name()),
        prop::option::of(word),
        prop::option::of(Just(Aggregate::Max)),
    )
        .prop_map(|(field, alias, cast, aggregate)| {
            SelectItem::Column(ColumnItem {
                field,
                alias,
                cast,
                aggregate,
                aggregate_cast: None,
            })
        });
    column.prop_recursive(3, 12, 3, |inner| {
        (
            any_name(),
            prop::option::of(any_name()),
            prop::option::of(any_name()),
            any::<bool>(),
            prop::collection::vec(inner, 0..3),
        )
            .prop_map(|(name, alias, hint, inner_join, items)| {
                SelectItem::Embed(EmbedItem {
                    name,
                    alias,
                    hint,
                    join: inner_join.then_some(Join::Inner),
                    spread: false,
                    items,
                })
            })
    })
}

fn print_item(item: &SelectItem) -> String {
    let alias = |alias: &Option<String>| {
        alias
            .as_ref()
            .map(|alias| format!("{}:", print_name(alias)))
            .unwrap_or_default()
    };
    match item {
        SelectItem::Column(column) => format!(
            "{}{}{}{}",
            alias(&column.alias),
            print_field(&column.field),
            column
                .cast
                .as_ref()
                .map(|cast| format!("::{cast}"))
                .unwrap_or_default(),
            column
                .aggregate
                .map(|aggregate| format!(".{}()", aggregate.name()))
                .unwrap_or_default(),
        ),
        SelectItem::Embed(embed) => format!(
            "{}{}{}{}({})",
            alias(&embed.alias),
            print_name(&embed.name),
            embed
                .hint
                .as_ref()
                .map(|hint| format!("!{}", print_name(hint)))
                .unwrap_or_default(),
            if embed.join.is_some() { "!inner" } else { "" },
            embed
                .items
                .iter()
                .map(print_item)
                .collect::<Vec<_>>()
                .join(","),
        ),
    }
}

fn any_logic() -> impl Strategy<Value = Logic> {
    let filter = (any_field(), any::<bool>(), "\\PC{0,8}").prop_map(|(field, negated, value)| {
        Logic::Filter(Filter {
            field,
            negated,
            operation: Operation::Quantified(QuantOp::Eq, None, value),
        })
    });
    filter.prop_recursive(3, 12, 3, |inner| {
        (
            any::<bool>(),
            any::<bool>(),
            prop::collection::vec(inner, 1..3),
        )
            .prop_map(|(negated, any, terms)| Logic::Group {
                negated,
                any,
                terms,
            })
    })
}

fn print_logic(logic: &Logic) -> String {
    match logic {
        Logic::Filter(filter) => {
            let Operation::Quantified(_, _, value) = &filter.operation else {
                unreachable!("only eq is made")
            };
            format!(
                "{}.{}eq.{}",
                print_field(&filter.field),
                if filter.negated { "not." } else { "" },
                print_name(value)
            )
        }
        Logic::Group {
            negated,
            any,
            terms,
        } => format!(
            "{}{}({})",
            if *negated { "not." } else { "" },
            if *any { "or" } else { "and" },
            terms.iter().map(print_logic).collect::<Vec<_>>().join(",")
        ),
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

proptest! {
    #[test]
    fn select_round_trips(items in prop::collection::vec(any_item(), 1..4)) {
        let text = items.iter().map(print_item).collect::<Vec<_>>().join(",");
        prop_assert_eq!(parse(&format!("select={}", encode(&text))).select, items);
    }

    #[test]
    fn logic_round_trips(terms in prop::collection::vec(any_logic(), 1..4), any: bool) {
        let text = terms.iter().map(print_logic).collect::<Vec<_>>().join(",");
        let query = parse(&format!("{}={}", if any { "or" } else { "and" }, encode(&format!("({text})"))));
        prop_assert_eq!(&query.logic[0].1, &Logic::Group { negated: false, any, terms });
    }

    #[test]
    fn lists_round_trip(values in prop::collection::vec("\\PC{0,10}", 0..5)) {
        let text = values.iter().map(|value| print_name(value)).collect::<Vec<_>>().join(",");
        let query = parse(&format!("a={}", encode(&format!("in.({text})"))));
        prop_assert_eq!(&query.filters[0].1.operation, &Operation::In(values));
    }

    #[test]
    fn values_pass_unchanged(value in "\\PC{0,40}") {
        let query = parse(&format!("a={}", encode(&format!("eq.{value}"))));
        prop_assert_eq!(&query.filters[0].1.operation, &Operation::Quantified(QuantOp::Eq, None, value));
    }

    #[test]
    fn nonsense_never_panics(raw in "\\PC{0,80}", target in prop_oneof![Just(Target::Relation), Just(Target::FunctionRead)]) {
        let _ = parse_query(&raw, target);
    }

    #[test]
    fn near_misses_never_panic(
        key in "(select|order|columns|on_conflict|or|and|a\\.order|not\\.or|a|a->b|\"a)",
        value in "[a-z0-9\"\\\\.,:()!>*{}-]{0,40}",
    ) {
        for text in [format!("{key}={value}"), format!("{key}={}", encode(&value))] {
            if let Err(error) = parse_query(&text, Target::Relation) {
                prop_assert!(error.column >= 1);
                prop_assert!(error.message().starts_with("\"failed to parse "));
            }
        }
    }

    #[test]
    fn types_hold_only_what_sql_may_show(cast in "\\PC{0,20}") {
        let Ok(query) = parse_query(&format!("select={}", encode(&format!("a::{cast}"))), Target::Relation) else { return Ok(()) };
        for item in query.select {
            if let SelectItem::Column(ColumnItem { cast: Some(cast), .. }) = item {
                prop_assert!(cast.chars().all(|c| c.is_ascii_alphanumeric() || "_$ ".contains(c)));
            }
        }
    }
}
