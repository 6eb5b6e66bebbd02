//! Order of numbers as PostgreSQL prints them, at any precision.

use std::cmp::Ordering;

/// Compares two numbers given as text, as PostgreSQL orders them: `-Infinity` first, then numbers, `Infinity`, `NaN` last and
/// equal to itself. `None` when one is not a number.
pub(crate) fn compare(left: &str, right: &str) -> Option<Ordering> {
    Some(match (rank(left), rank(right)) {
        (Rank::Number, Rank::Number) => {
            let (left, right) = (Decimal::parse(left)?, Decimal::parse(right)?);
            left.compare(&right)
        }
        (left, right) => left.cmp(&right),
    })
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    NegativeInfinity,
    Number,
    Infinity,
    NotANumber,
}

fn rank(text: &str) -> Rank {
    match text {
        "NaN" => Rank::NotANumber,
        "Infinity" => Rank::Infinity,
        "-Infinity" => Rank::NegativeInfinity,
        _ => Rank::Number,
    }
}

/// `0.digits × 10^exponent`, without zeros around the digits; zero has no digits.
struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, power) = match text.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() && fraction.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        if !whole.is_empty() {
            let exponent = i64::try_from(whole.len()).ok()? + power;
            let whole = if fraction.is_empty() {
                whole.trim_end_matches('0')
            } else {
                whole
            };
            return Some(Self {
                negative,
                whole,
                fraction,
                exponent,
            });
        }
        let significant = fraction.trim_start_matches('0');
        let zeros = i64::try_from(fraction.len() - significant.len()).ok()?;
        Some(Self {
            negative: negative && !significant.is_empty(),
            whole: "",
            fraction: significant,
            exponent: power - zeros,
        })
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self.is_zero(), other.is_zero()) {
            (true, true) => return Ordering::Equal,
            (true, false) => {
                return if other.negative {
                    Ordering::Greater
                } else {
                    Ordering::Less
                };
            }
            (false, true) => {
                return if self.negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                };
            }
            (false, false) => {}
        }
        if self.negative != other.negative {
            return if self.negative {
                Ordering::Less
            } else {
                Ordering::Greater
            };
        }
        let digits = |number: &Self| {
            number
                .whole
                .bytes()
                .chain(number.fraction.bytes())
                .collect::<Vec<_>>()
        };
        let magnitude = self
            .exponent
            .cmp(&other.exponent)
            .then_with(|| digits(self).cmp(&digits(other)));
        if self.negative {
            magnitude.reverse()
        } else {
            magnitude
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_numbers_may_be_printed_in_different_ways() {
        for (left, right) in [
            ("1", "1.00"),
            ("0", "-0"),
            ("1e+02", "100"),
            ("0.10", "1e-01"),
            ("NaN", "NaN"),
            ("0.0", "0e+05"),
        ] {
            assert_eq!(
                compare(left, right),
                Some(Ordering::Equal),
                "{left} {right}"
            );
        }
        assert_eq!(compare("x", "1"), None);
        assert_eq!(compare("", "1"), None);
        assert_eq!(compare("NaN", "Infinity"), Some(Ordering::Greater));
        assert_eq!(
            compare("9007199254740993", "9007199254740992"),
            Some(Ordering::Greater)
        );
    }

    proptest! {
        #[test]
        fn whole_numbers_are_ordered(left in any::<i128>(), right in any::<i128>()) {
            prop_assert_eq!(compare(&left.to_string(), &right.to_string()), Some(left.cmp(&right)));
        }

        #[test]
        fn floats_are_ordered(left in any::<f64>(), right in any::<f64>()) {
            prop_assume!(left.is_finite() && right.is_finite());
            let text = |number: f64| format!("{number:e}");
            prop_assert_eq!(compare(&text(left), &text(right)), left.partial_cmp(&right));
        }

        #[test]
        fn any_text_is_compared_or_refused(left in any::<String>(), right in "[0-9.eE+-]{0,12}") {
            let _ = compare(&left, &right);
        }
    }
}
