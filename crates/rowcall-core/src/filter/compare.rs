//! The values of a filter and how a row's values compare with them.

use std::cmp::Ordering;

use super::instant;

/// A number in a filter may have at most this many digits and an exponent of this size; a longer one is text.
const MAX_NUMBER: usize = 1000;

/// A value in a filter: a text that may also be read as a number, a boolean or an instant. The row's value decides which.
#[derive(Clone, Debug)]
pub struct Literal {
    text: Box<str>,
    number: Option<Decimal>,
    boolean: Option<bool>,
    instant: Option<i64>,
}

impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Literal {}

impl Literal {
    /// Reads the text in every way it can be read.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        Self {
            number: Decimal::parse_literal(&text),
            boolean: boolean(&text),
            instant: instant::parse(&text),
            text,
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The number, when the text is one.
    pub fn number(&self) -> Option<&Decimal> {
        self.number.as_ref()
    }

    /// The boolean, when PostgreSQL reads the text as one.
    pub fn boolean(&self) -> Option<bool> {
        self.boolean
    }

    /// Microseconds since 1970 in UTC, when the text is an ISO 8601 date or time.
    pub fn instant_micros(&self) -> Option<i64> {
        self.instant
    }

    /// How a scalar of the row stands to this value; `None` when they cannot be compared and so are not equal.
    pub(super) fn order_of(&self, value: &Scalar<'_>) -> Option<Ordering> {
        match value {
            Scalar::Number(token) => Some(Decimal::parse(token)?.cmp(self.number.as_ref()?)),
            Scalar::Boolean(value) => Some(value.cmp(&self.boolean?)),
            Scalar::Text(value) => Some(match self.instant {
                Some(literal) => match instant::parse(value) {
                    Some(value) => value.cmp(&literal),
                    None => value.as_bytes().cmp(self.text.as_bytes()),
                },
                None => value.as_bytes().cmp(self.text.as_bytes()),
            }),
            Scalar::Composite => None,
        }
    }
}

/// What PostgreSQL reads as a boolean, in any case, whole words only.
fn boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["true", "t", "yes", "y", "on", "1"]) {
        Some(true)
    } else if is(&["false", "f", "no", "n", "off", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// A value of the row, not null.
#[derive(Debug)]
pub(super) enum Scalar<'a> {
    /// The token as it stands in the JSON.
    Number(&'a str),
    Boolean(bool),
    Text(String),
    /// An array or object.
    Composite,
}

/// An exact decimal: `0.digits × 10^exponent`, without zeros at either end of the digits; zero has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    digits: Box<[u8]>,
    exponent: i64,
}

impl Decimal {
    /// Reads `-12.50e3`: a sign, digits with a point among or before them, an exponent. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || fraction.is_empty() {
            return None;
        }
        if whole.is_empty() && !mantissa.contains('.') {
            return None;
        }
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let leading = all.iter().take_while(|digit| **digit == b'0').count();
        let trailing = all[leading..]
            .iter()
            .rev()
            .take_while(|digit| **digit == b'0')
            .count();
        let digits: Box<[u8]> = all[leading..all.len() - trailing].into();
        if digits.is_empty() {
            return Some(Self {
                negative: false,
                digits,
                exponent: 0,
            });
        }
        let point = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()?;
        Some(Self {
            negative,
            digits,
            exponent: exponent.saturating_add(point),
        })
    }

    /// A number of a filter, which must also fit into SQL's `numeric`.
    fn parse_literal(text: &str) -> Option<Self> {
        if text.len() > MAX_NUMBER {
            return None;
        }
        let number = Self::parse(text)?;
        (number.exponent.unsigned_abs() <= MAX_NUMBER as u64).then_some(number)
    }
}

/// The digits after `e`; too large ones saturate, which keeps the order of any two numbers a row can hold.
fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse::<i64>().unwrap_or(i64::MAX / 2);
    Some(if negative { -value } else { value })
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.digits.is_empty(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let magnitude = || {
            self.exponent
                .cmp(&other.exponent)
                .then_with(|| self.digits.cmp(&other.digits))
        };
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            1 => magnitude(),
            _ => magnitude().reverse(),
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for Decimal {
    /// A form that both JSON and SQL's `numeric` read: `-125e-1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        let sign = if self.negative { "-" } else { "" };
        let digits = std::str::from_utf8(&self.digits).expect("digits are ASCII");
        let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
        write!(f, "{sign}{digits}e{}", self.exponent.saturating_sub(count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text:?} is a number"))
    }

    #[test]
    fn numbers_beyond_floats_are_exact() {
        assert!(decimal("9007199254740993") > decimal("9007199254740992"));
        assert!(decimal("0.1") < decimal("0.10000000000000000001"));
        assert_eq!(decimal("-0.0"), decimal("0"));
        assert_eq!(decimal("1.50e2"), decimal("150"));
        assert_eq!(decimal(".5"), decimal("5e-1"));
        assert!(decimal("-2") < decimal("-1.9"));
        assert!(decimal("1e999999999999999999999") > decimal("1e9"));
        for text in [
            "", "-", ".", "1.", "e5", "1e", "0x1", "1 ", "NaN", "1_0", "--1", ".",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn integers_order_as_integers(a in any::<i64>(), b in any::<i64>()) {
            prop_assert_eq!(decimal(&a.to_string()).cmp(&decimal(&b.to_string())), a.cmp(&b));
        }

        #[test]
        fn shifting_the_point_changes_nothing(a in any::<i32>(), shift in 0u32..12) {
            let zeros = "0".repeat(shift as usize);
            prop_assert_eq!(decimal(&format!("{a}{zeros}e-{shift}")), decimal(&a.to_string()));
        }

        #[test]
        fn display_parses_back(text in "-?[0-9]{1,25}(\\.[0-9]{1,25})?(e-?[0-9]{1,3})?") {
            let number = decimal(&text);
            prop_assert_eq!(decimal(&number.to_string()), number);
        }
    }
}
