//! Comparisons of a binding, checked by PostgreSQL and ready to be applied to rows.
//!
//! Where the result follows from the text PostgreSQL prints, a comparison is made here. All others are left to PostgreSQL,
//! many rows at a time: its collations, its regular expressions, its types.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::decimal;
use super::filter::{Operand, Operator, Segment};

/// What PostgreSQL said about the column and the literal of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) type_oid: u32,
    /// The type as SQL, quoted where needed.
    pub(crate) type_sql: String,
    pub(crate) is_enum: bool,
    /// The column's collation as SQL where it is not the type's own: ` collate "x"."y"`.
    pub(crate) collation_sql: String,
    /// Equal texts are the only equal values.
    pub(crate) is_deterministic: bool,
    /// The literals as the type prints them.
    pub(crate) canonical: Vec<String>,
}

/// A comparison that can be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Predicate {
    pub(crate) column: String,
    pub(crate) type_oid: u32,
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Is(String),
    /// Equal texts are equal values; the operator is one of eq, neq, isdistinct.
    Text {
        operator: Operator,
        literal: String,
    },
    TextIn(HashSet<String>),
    Number {
        operator: Operator,
        literal: String,
    },
    NumberIn(Vec<String>),
    Like(String),
    Postgres(Box<Question>),
}

/// A comparison PostgreSQL is asked to make.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    operator: Operator,
    type_sql: String,
    collation_sql: String,
    literals: Vec<String>,
}

/// What is known about one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    Holds,
    Fails,
    /// PostgreSQL has to be asked; the answer is negated if the predicate is.
    Ask(&'a Question),
}

impl From<bool> for Verdict<'_> {
    fn from(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }
}

/// Types whose values are equal exactly when their texts are.
fn is_text_exact(checked: &Checked) -> bool {
    const BOOL: u32 = 16;
    const BYTEA: u32 = 17;
    const NAME: u32 = 19;
    const TEXT: u32 = 25;
    const VARCHAR: u32 = 1043;
    const DATE: u32 = 1082;
    const TIMESTAMP: u32 = 1114;
    const TIMESTAMPTZ: u32 = 1184;
    const UUID: u32 = 2950;
    let is_known = matches!(
        checked.type_oid,
        BOOL | BYTEA | NAME | TEXT | VARCHAR | DATE | TIMESTAMP | TIMESTAMPTZ | UUID
    );
    (is_known || checked.is_enum) && checked.is_deterministic
}

/// Types [`decimal::compare`] orders.
fn is_number(checked: &Checked) -> bool {
    // int8, int2, int4, oid, float4, float8, numeric
    matches!(checked.type_oid, 20 | 21 | 23 | 26 | 700 | 701 | 1700)
}

impl Predicate {
    /// Makes a checked segment applicable.
    pub(crate) fn new(segment: &Segment, checked: Checked) -> Self {
        use Operator::{Eq, Gt, Gte, In, Is, IsDistinct, Like, Lt, Lte, Neq};
        let first = || checked.canonical.first().cloned().unwrap_or_default();
        let test = match (segment.operator, &segment.operand) {
            (Is, Operand::One(truth)) => Test::Is(truth.clone()),
            (In, _) if is_text_exact(&checked) => {
                Test::TextIn(checked.canonical.iter().cloned().collect())
            }
            (In, _) if is_number(&checked) => Test::NumberIn(checked.canonical.clone()),
            (operator @ (Eq | Neq | IsDistinct), _) if is_text_exact(&checked) => Test::Text {
                operator,
                literal: first(),
            },
            (operator @ (Eq | Neq | Lt | Lte | Gt | Gte | IsDistinct), _)
                if is_number(&checked) =>
            {
                Test::Number {
                    operator,
                    literal: first(),
                }
            }
            (Like, Operand::One(pattern))
                if is_text_exact(&checked) && !pattern.ends_with('\\') =>
            {
                Test::Like(pattern.clone())
            }
            (operator, operand) => Test::Postgres(Box::new(Question {
                operator,
                type_sql: checked.type_sql,
                collation_sql: checked.collation_sql,
                literals: match operand {
                    Operand::One(literal) => vec![literal.clone()],
                    Operand::Many(literals) => literals.clone(),
                },
            })),
        };
        Self {
            column: segment.column.clone(),
            type_oid: checked.type_oid,
            negated: segment.negated,
            test,
        }
    }

    pub(crate) fn is_negated(&self) -> bool {
        self.negated
    }

    /// The text a column must have for the predicate to hold, when it is that simple: for an index over bindings.
    pub(crate) fn exact(&self) -> Option<&str> {
        match &self.test {
            Test::Text {
                operator: Operator::Eq,
                literal,
            } if !self.negated => Some(literal),
            _ => None,
        }
    }

    /// Applies the predicate to a value; `None` is null. What SQL would call null does not hold, negated or not.
    pub(crate) fn apply(&self, value: Option<&str>) -> Verdict<'_> {
        let Some(value) = value else {
            return self.apply_to_null();
        };
        let holds = match &self.test {
            Test::Is(truth) => match truth.as_str() {
                "true" => value == "t",
                "false" => value == "f",
                _ => false,
            },
            Test::Text { operator, literal } => (value == literal) == (*operator == Operator::Eq),
            Test::TextIn(literals) => literals.contains(value),
            Test::Number { operator, literal } => match decimal::compare(value, literal) {
                Some(order) => order_matches(*operator, order),
                None => return Verdict::Fails,
            },
            Test::NumberIn(literals) => literals
                .iter()
                .any(|literal| decimal::compare(value, literal) == Some(Ordering::Equal)),
            Test::Like(pattern) => like(value, pattern),
            Test::Postgres(question) => return Verdict::Ask(question),
        };
        Verdict::from(holds != self.negated)
    }

    fn apply_to_null(&self) -> Verdict<'_> {
        let holds = match &self.test {
            Test::Is(truth) => truth == "null" || truth == "unknown",
            Test::Text {
                operator: Operator::IsDistinct,
                ..
            }
            | Test::Number {
                operator: Operator::IsDistinct,
                ..
            } => true,
            Test::Postgres(question) if question.operator == Operator::IsDistinct => true,
            _ => return Verdict::Fails,
        };
        Verdict::from(holds != self.negated)
    }
}

fn order_matches(operator: Operator, order: Ordering) -> bool {
    match operator {
        Operator::Eq => order.is_eq(),
        Operator::Neq | Operator::IsDistinct => order.is_ne(),
        Operator::Lt => order.is_lt(),
        Operator::Lte => order.is_le(),
        Operator::Gt => order.is_gt(),
        Operator::Gte => order.is_ge(),
        _ => false,
    }
}

/// SQL `LIKE`: `%` any text, `_` one character, `\` takes the next character as it is. Iterative, at most quadratic.
fn like(value: &str, pattern: &str) -> bool {
    enum Token {
        Any,
        One,
        Exact(char),
    }
    let mut tokens = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '%' => Token::Any,
            '_' => Token::One,
            '\\' => Token::Exact(characters.next().unwrap_or('\\')),
            other => Token::Exact(other),
        });
    }
    let value: Vec<char> = value.chars().collect();
    let (mut at, mut token) = (0, 0);
    let mut backtrack = None;
    while at < value.len() {
        match tokens.get(token) {
            Some(Token::Any) => {
                backtrack = Some((token + 1, at));
                token += 1;
                continue;
            }
            Some(Token::One) => {
                at += 1;
                token += 1;
                continue;
            }
            Some(Token::Exact(expected)) if *expected == value[at] => {
                at += 1;
                token += 1;
                continue;
            }
            _ => {}
        }
        let Some((after, started)) = backtrack else {
            return false;
        };
        backtrack = Some((after, started + 1));
        token = after;
        at = started + 1;
    }
    tokens[token..]
        .iter()
        .all(|token| matches!(token, Token::Any))
}

impl Question {
    /// The query that answers it for many values: `$1` the values as text, `$2` the literals. Returns the numbers, from 1, of
    /// the values for which the comparison is (or, negated, is not) true.
    pub(crate) fn sql(&self, negated: bool) -> String {
        let Self {
            operator,
            type_sql,
            collation_sql,
            ..
        } = self;
        let not = if negated { "not " } else { "" };
        let right = match operator {
            Operator::In => format!("any ($2::text[]::{type_sql}[])"),
            _ if operator.is_pattern() => "($2::text[])[1]".to_owned(),
            _ => format!("($2::text[])[1]::{type_sql}"),
        };
        let left = format!("v.value::{type_sql}{collation_sql}");
        let operator = operator.sql();
        format!(
            "select v.number from unnest($1::text[]) with ordinality as v (value, number) \
             where {not}({left} {operator} {right})"
        )
    }

    pub(crate) fn literals(&self) -> &[String] {
        &self.literals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::changes::filter;
    use proptest::prelude::*;

    fn predicate(filter: &str, type_oid: u32) -> Predicate {
        let segment = filter::parse(filter).unwrap().remove(0);
        let canonical = match &segment.operand {
            Operand::One(literal) => vec![literal.clone()],
            Operand::Many(literals) => literals.clone(),
        };
        let checked = Checked {
            type_oid,
            type_sql: "text".to_owned(),
            is_enum: false,
            collation_sql: String::new(),
            is_deterministic: true,
            canonical,
        };
        Predicate::new(&segment, checked)
    }

    fn holds(filter: &str, type_oid: u32, value: Option<&str>) -> bool {
        predicate(filter, type_oid).apply(value) == Verdict::Holds
    }

    #[test]
    fn null_matches_only_what_asks_for_it() {
        for operator in [
            "eq.1", "neq.1", "lt.1", "lte.1", "gt.1", "gte.1", "in.(1)", "like.1", "ilike.1",
            "match.1", "imatch.1", "is.true",
        ] {
            for negated in ["", "not."] {
                let expected = operator == "is.true" && negated == "not.";
                for type_oid in [23, 25] {
                    let filter = format!("a={negated}{operator}");
                    assert_eq!(holds(&filter, type_oid, None), expected, "{filter}");
                }
            }
        }
        assert!(holds("a=is.null", 25, None));
        assert!(!holds("a=not.is.null", 25, None));
        assert!(holds("a=is.unknown", 16, None));
        assert!(holds("a=isdistinct.1", 23, None));
        assert!(!holds("a=not.isdistinct.1", 23, None));
    }

    #[test]
    fn numbers_compare_by_value() {
        assert!(holds("a=eq.1", 1700, Some("1.00")));
        assert!(holds("a=gt.9", 23, Some("10")));
        assert!(holds("a=not.lt.9", 23, Some("9")));
        assert!(holds("a=in.(1,2)", 1700, Some("2.0")));
        assert!(!holds("a=isdistinct.1", 1700, Some("1.0")));
    }

    #[test]
    fn texts_compare_by_equality_here_and_by_order_in_the_database() {
        assert!(holds("a=eq.x", 25, Some("x")));
        assert!(holds("a=neq.x", 25, Some("y")));
        assert!(holds("a=is.true", 16, Some("t")));
        assert!(matches!(
            predicate("a=gt.x", 25).apply(Some("y")),
            Verdict::Ask(_)
        ));
        assert!(matches!(
            predicate("a=ilike.x", 25).apply(Some("y")),
            Verdict::Ask(_)
        ));
    }

    #[test]
    fn like_knows_wildcards_and_escapes() {
        for (pattern, value, expected) in [
            ("a%", "abc", true),
            ("%c", "abc", true),
            ("a_c", "abc", true),
            ("a_c", "ac", false),
            ("%b%", "abc", true),
            (r"a\%", "a%", true),
            (r"a\%", "ab", false),
            ("", "", true),
            ("%", "", true),
            ("ž_", "žá", true),
            ("%ab%ab%", "xabxxabx", true),
            ("%ab%ab%", "xabx", false),
        ] {
            assert_eq!(like(value, pattern), expected, "{value} like {pattern}");
        }
    }

    proptest! {
        #[test]
        fn like_agrees_with_a_regular_expression(value in "[ab]{0,10}", pattern in "[ab%_]{0,8}") {
            let expression = format!("^{}$", pattern.replace('%', ".*").replace('_', "."));
            prop_assert_eq!(like(&value, &pattern), regex::Regex::new(&expression)?.is_match(&value));
        }
    }
}
