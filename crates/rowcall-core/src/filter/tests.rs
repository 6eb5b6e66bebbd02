//! What filters mean, and that reading and writing them agree.

use proptest::prelude::*;

use super::*;

fn truth(filter: &str, row: &str) -> Truth {
    let filter = Filter::parse(filter).unwrap_or_else(|error| panic!("{error}"));
    filter.evaluate(&Payload::from_text(row.to_owned()).unwrap())
}

#[track_caller]
fn holds(filter: &str, row: &str) {
    assert_eq!(truth(filter, row), Truth::True, "{filter} on {row}");
}

#[track_caller]
fn fails(filter: &str, row: &str) {
    assert_eq!(truth(filter, row), Truth::False, "{filter} on {row}");
}

#[track_caller]
fn unknown(filter: &str, row: &str) {
    assert_eq!(truth(filter, row), Truth::Unknown, "{filter} on {row}");
}

#[test]
fn the_examples_of_the_guide() {
    holds("priority=eq.high", r#"{"priority":"high"}"#);
    fails("status=eq.pending", r#"{"status":"failed"}"#);
    holds("user_id=eq.123", r#"{"user_id":123}"#);
    holds("user_id=eq.123", r#"{"user_id":"123"}"#);
}

#[test]
fn numbers_are_exact() {
    holds("n=gt.9007199254740992", r#"{"n":9007199254740993}"#);
    holds("n=eq.1.50", r#"{"n":1.5}"#);
    holds("n=lt.10", r#"{"n":9}"#);
    fails("n=eq.ten", r#"{"n":10}"#);
    holds("n=neq.ten", r#"{"n":10}"#);
    unknown("n=gt.ten", r#"{"n":10}"#);
}

#[test]
fn text_compares_by_bytes_and_times_as_instants() {
    holds("s=lt.b", r#"{"s":"a"}"#);
    holds("s=gt.Z", r#"{"s":"a"}"#);
    fails("s=gt.9", r#"{"s":"10"}"#);
    holds(
        "t=eq.2024-01-15T10:00:00Z",
        r#"{"t":"2024-01-15T12:00:00+02:00"}"#,
    );
    holds("t=gte.2024-01-15", r#"{"t":"2024-01-15T00:00:00"}"#);
}

#[test]
fn null_is_unknown_but_not_to_is() {
    unknown("a=eq.1", "{}");
    unknown("a=neq.1", r#"{"a":null}"#);
    unknown("a=not.eq.1", r#"{"a":null}"#);
    holds("a=is.null", "{}");
    fails("a=is.not_null", "{}");
    holds("a=not.is.null", r#"{"a":0}"#);
    holds("a=is.true", r#"{"a":true}"#);
    fails("a=is.true", r#"{"a":"true"}"#);
    holds("a=is.unknown", r#"{"a":null}"#);
    fails("a=in.()", "{}");
    unknown("a=in.(1)", "{}");
    holds("or=(a.eq.1,b.eq.2)", r#"{"b":2}"#);
    unknown("or=(a.eq.1,b.eq.2)", r#"{"b":3}"#);
    fails("and=(a.eq.1,b.eq.2)", r#"{"b":3}"#);
}

#[test]
fn lists_patterns_paths_and_quotes() {
    holds("s=in.(a,\"b,c\",d)", r#"{"s":"b,c"}"#);
    holds("s=not.in.(1,2)", r#"{"s":3}"#);
    holds("s=like.*net*", r#"{"s":"the network"}"#);
    fails("s=like.*NET*", r#"{"s":"the network"}"#);
    holds("s=ilike.THE%", r#"{"s":"the network"}"#);
    unknown("s=like.1*", r#"{"s":12}"#);
    holds("raw_data->>kind=eq.x", r#"{"raw_data":{"kind":"x"}}"#);
    holds(
        "raw_data->tags->0=eq.x",
        r#"{"raw_data":{"tags":["x","y"]}}"#,
    );
    holds(
        "raw_data->tags->-1=eq.y",
        r#"{"raw_data":{"tags":["x","y"]}}"#,
    );
    unknown(
        "raw_data->tags->2=eq.y",
        r#"{"raw_data":{"tags":["x","y"]}}"#,
    );
    holds(
        "\"My Col.\"=eq.\"a \\\"b\\\" \\\\\"",
        r#"{"My Col.":"a \"b\" \\"}"#,
    );
    holds("Größe=eq.ü", r#"{"Größe":"ü"}"#);
    fails("o=eq.{}", r#"{"o":{}}"#);
}

#[test]
fn several_conditions_and_nesting() {
    let row = r#"{"a":1,"b":"x","c":true}"#;
    holds("a=eq.1&b=eq.x,c=is.true", row);
    holds("a=eq.1, b=eq.x", row);
    fails("a=eq.1&b=eq.y", row);
    holds("or=(a.eq.2,and(b.eq.x,not.or(c.is.false,a.gt.5)))", row);
    holds("not.and=(a.eq.1,b.eq.y)", row);
    holds("not.and(a.eq.1,b.eq.y)", row);
    holds("and=eq.1", r#"{"and":1}"#);
    holds("not=eq.1", r#"{"not":1}"#);
}

#[test]
fn errors_say_what_and_where() {
    let error = |text: &str| Filter::parse(text).unwrap_err().to_string();
    insta::assert_snapshot!(
        [
            "",
            "status",
            "status=pending",
            "status=match.x",
            "s=eq.\"open",
            "s=eq.a, b",
            "s=in.a",
            "s=in.(a",
            "s=is.5",
            "s=like.a\\",
            "or=(a.eq.1",
            "=eq.1",
            "a->=eq.1",
            "s=eq.\"a\"b",
            "a=eq",
            "and=()",
        ]
        .map(|text| format!("{text:?}: {}", error(text)))
        .join("\n")
    );
}

#[test]
fn limits_hold() {
    let deep = format!("{}a.eq.1{}", "and(".repeat(17), ")".repeat(17));
    assert!(Filter::parse(&deep).unwrap_err().reason.contains("nested"));
    let fine = format!("{}a.eq.1,b.eq.2{}", "or(".repeat(16), ")".repeat(16));
    assert!(Filter::parse(&fine).is_ok());
    let many = vec!["a=eq.1"; MAX_CONDITIONS + 1].join("&");
    assert!(
        Filter::parse(&many)
            .unwrap_err()
            .reason
            .contains("conditions")
    );
    let long = format!("a=eq.{}", "x".repeat(MAX_FILTER_BYTES));
    assert!(Filter::parse(&long).unwrap_err().reason.contains("bytes"));
    let list = format!("a=in.({})", vec!["1"; MAX_LIST + 1].join(","));
    assert!(Filter::parse(&list).unwrap_err().reason.contains("values"));
    let path = format!("a{}=eq.1", "->b".repeat(MAX_STEPS + 1));
    assert!(Filter::parse(&path).unwrap_err().reason.contains("steps"));
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9.:-]{0,6}",
        "[ -~äß]{0,8}",
        "-?[0-9]{1,4}(\\.[0-9]{1,3})?",
        Just("true".to_owned()),
    ]
}

fn condition() -> impl Strategy<Value = Expr> {
    let name = prop_oneof!["[a-z_]{1,6}", "[ -~ü]{1,6}", Just("and".to_owned())];
    let path = prop::collection::vec(name.prop_map(Into::into), 1..4);
    let test = prop_oneof![
        (0usize..6, value())
            .prop_map(|(index, text)| Test::Compare(Operator::ALL[index].0, Literal::new(text))),
        prop::collection::vec(value().prop_map(Literal::new), 0..4).prop_map(Test::In),
        (0usize..5).prop_map(|index| Test::Is(IsTest::ALL[index].0)),
        (value(), any::<bool>()).prop_filter_map("lone backslash", |(text, fold_case)| {
            Pattern::new(text).map(|pattern| Test::Like { pattern, fold_case })
        }),
    ];
    (path, test).prop_map(|(path, test)| Expr::Condition(Condition { path, test }))
}

fn expr() -> impl Strategy<Value = Expr> {
    let negatable = |inner: BoxedStrategy<Expr>| {
        (any::<bool>(), inner).prop_map(|(negated, inner)| match inner {
            Expr::Not(_) => inner,
            inner if negated => Expr::Not(Box::new(inner)),
            inner => inner,
        })
    };
    negatable(condition().boxed()).prop_recursive(3, 24, 4, move |inner| {
        let list = prop::collection::vec(inner, 2..4);
        negatable(prop_oneof![list.clone().prop_map(Expr::And), list.prop_map(Expr::Or)].boxed())
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(expr in expr()) {
        let filter = Filter(expr);
        let text = filter.to_string();
        let again = Filter::parse(&text);
        prop_assert_eq!(again.as_ref(), Ok(&filter), "{}", text);
    }

    #[test]
    fn parsing_never_panics(text in ".{0,60}") {
        let _ = Filter::parse(&text);
    }

    #[test]
    fn parsing_near_misses_never_panics(text in "[a-c=.,&()\"\\\\>-]{0,40}") {
        let _ = Filter::parse(&text);
    }

    #[test]
    fn negation_turns_true_and_false_round(expr in expr(), row in "\\{\"[a-c]\":(1|\"x\"|null|true)\\}") {
        let row = Payload::from_text(row).unwrap();
        let negated = Filter(Expr::Not(Box::new(expr.clone())));
        prop_assert_eq!(negated.evaluate(&row), !Filter(expr).evaluate(&row));
    }
}
