//! Every query that is printed is read again as it was, and nothing makes the parsers panic.

use proptest::prelude::*;

use super::super::ast::*;
use super::super::*;
use super::examples::parse;

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
