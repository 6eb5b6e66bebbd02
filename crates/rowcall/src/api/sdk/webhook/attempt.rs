//! What clients call an attempt: a number, digits or a text.

use serde_json::Value;

use crate::api::{body::check_text, error::ApiError};

/// A whole number above zero or digits become `run-n`, other texts stay; everything else counts as absent.
pub(super) fn normalise(value: Option<&Value>, limit: usize) -> Result<Option<String>, ApiError> {
    Ok(match value {
        Some(Value::Number(number)) => number
            .as_u64()
            .filter(|number| *number > 0)
            .map(|number| format!("run-{number}")),
        Some(Value::String(text)) => {
            let text = check_text("attempt_id", text.trim(), limit)?;
            if text.is_empty() {
                None
            } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
                Some(format!("run-{text}"))
            } else {
                Some(text.to_owned())
            }
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_digits_are_runs() {
        for (given, expected) in [
            (json!(2), Some("run-2")),
            (json!("2"), Some("run-2")),
            (json!("run-2"), Some("run-2")),
            (json!(" a "), Some("a")),
            (json!(0), None),
            (json!(-1), None),
            (json!(1.5), None),
            (json!("  "), None),
            (json!(null), None),
            (json!([1]), None),
        ] {
            assert_eq!(
                normalise(Some(&given), 20).unwrap().as_deref(),
                expected,
                "{given}"
            );
        }
    }
}
