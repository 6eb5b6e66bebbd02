//! Evaluating a filter over a row in memory, in SQL's three-valued logic.

use std::cmp::Ordering;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    ast::{Condition, Expr, IsTest, Operator, Test},
    compare::Scalar,
};

/// True, false, or unknown where null is involved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// SQL's null: not known.
    Unknown,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

impl std::ops::Not for Truth {
    type Output = Self;
    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// The outcome of `expr` for `row`. The depth of the recursion is bounded by the parser.
pub(super) fn evaluate(expr: &Expr, row: &RawValue) -> Truth {
    match expr {
        Expr::Condition(condition) => test(condition, row),
        Expr::Not(inner) => !evaluate(inner, row),
        Expr::And(all) => combine(all, row, Truth::False),
        Expr::Or(all) => combine(all, row, Truth::True),
    }
}

/// `and` ends with the first false, `or` with the first true; otherwise one unknown makes the whole unknown.
fn combine(all: &[Expr], row: &RawValue, decisive: Truth) -> Truth {
    let mut outcome = !decisive;
    for expr in all {
        match evaluate(expr, row) {
            truth if truth == decisive => return decisive,
            Truth::Unknown => outcome = Truth::Unknown,
            _ => {}
        }
    }
    outcome
}

fn test(condition: &Condition, row: &RawValue) -> Truth {
    let value = condition
        .path
        .iter()
        .try_fold(row, |value, key| step(value, key))
        .and_then(scalar);
    let Some(value) = value else {
        return match &condition.test {
            Test::Is(IsTest::Null | IsTest::Unknown) => Truth::True,
            Test::Is(_) => Truth::False,
            Test::In(list) if list.is_empty() => Truth::False,
            _ => Truth::Unknown,
        };
    };
    match &condition.test {
        Test::Compare(operator, literal) => compare(*operator, literal.order_of(&value)),
        Test::In(list) => list
            .iter()
            .any(|literal| literal.order_of(&value) == Some(Ordering::Equal))
            .into(),
        Test::Is(is) => match is {
            IsTest::Null | IsTest::Unknown => false,
            IsTest::NotNull => true,
            IsTest::True => matches!(value, Scalar::Boolean(true)),
            IsTest::False => matches!(value, Scalar::Boolean(false)),
        }
        .into(),
        Test::Like { pattern, fold_case } => match &value {
            Scalar::Text(text) => pattern.matches(text, *fold_case).into(),
            _ => Truth::Unknown,
        },
    }
}

fn compare(operator: Operator, order: Option<Ordering>) -> Truth {
    let Some(order) = order else {
        return match operator {
            Operator::Eq => Truth::False,
            Operator::Neq => Truth::True,
            _ => Truth::Unknown,
        };
    };
    match operator {
        Operator::Eq => order.is_eq(),
        Operator::Neq => order.is_ne(),
        Operator::Gt => order.is_gt(),
        Operator::Gte => order.is_ge(),
        Operator::Lt => order.is_lt(),
        Operator::Lte => order.is_le(),
    }
    .into()
}

/// A JSON value as a scalar; `None` for null and for what is not JSON after all.
fn scalar(value: &RawValue) -> Option<Scalar<'_>> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'n' => None,
        b't' => Some(Scalar::Boolean(true)),
        b'f' => Some(Scalar::Boolean(false)),
        b'"' => serde_json::from_str(text).ok().map(Scalar::Text),
        b'{' | b'[' => Some(Scalar::Composite),
        _ => Some(Scalar::Number(text)),
    }
}

/// One step into JSON, as PostgreSQL's `#>`: a member of an object or, by an integer, an element of an array.
fn step<'a>(value: &'a RawValue, key: &str) -> Option<&'a RawValue> {
    let mut json = serde_json::Deserializer::from_str(value.get());
    match value.get().as_bytes().first()? {
        b'{' => json.deserialize_map(Member(key)).ok().flatten(),
        b'[' => {
            let elements: Vec<&RawValue> = Vec::deserialize(&mut json).ok()?;
            let index = array_index(key)?;
            let index = if index < 0 {
                elements
                    .len()
                    .checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?
            } else {
                usize::try_from(index).ok()?
            };
            elements.get(index).copied()
        }
        _ => None,
    }
}

/// What C's `strtol` makes of the whole text, within 32 bits: PostgreSQL reads array subscripts so.
fn array_index(key: &str) -> Option<i32> {
    let key = key.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = key.strip_prefix(['+', '-']).unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    key.parse().ok()
}

/// Finds one member of an object without building the object; the last of several wins, as in `jsonb`.
struct Member<'k>(&'k str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(wanted) = map.next_key_seed(Is(self.0))? {
            if wanted {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Ok(None)
    }
}

/// Compares a key without copying it.
struct Is<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a member name")
    }
    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}
