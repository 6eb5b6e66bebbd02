//! What a job may say about the agent that handles it: its model, its system prompt, its temperature. The rules are AIMQ's.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The highest temperature there is.
pub const MAX_TEMPERATURE: f64 = 2.0;
/// The longest name of a model, and the longest prompt, that a job may bring, in bytes.
pub const MAX_PROMPT_BYTES: usize = 64 * 1024;

/// What jobs may override, and what counts when they do not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverrideRules {
    /// The model that is used, by its key.
    pub llm: Option<String>,
    /// The keys of the models that a job may ask for.
    pub allowed_llms: BTreeSet<String>,
    /// The system prompt that is used.
    pub system_prompt: Option<String>,
    /// Whether a job may bring another one.
    pub allow_system_prompt: bool,
    /// The temperature that is used, 0 to 2. A job may always ask for another one.
    pub temperature: f64,
}

impl Default for OverrideRules {
    fn default() -> Self {
        Self {
            llm: None,
            allowed_llms: BTreeSet::new(),
            system_prompt: None,
            allow_system_prompt: false,
            temperature: 0.1,
        }
    }
}

/// What counts for one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effective {
    /// The model, by its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<String>,
    /// The system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// The temperature, 0 to 2.
    pub temperature: f64,
}

/// A job asked for something that it may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// The model is not among those that are allowed.
    #[error(
        "the job asks for the model {asked:?}, and {allowed}: add it to `allowed_llms`, or leave it out of the job"
    )]
    Llm {
        /// What it asked for.
        asked: String,
        /// What is allowed, in words.
        allowed: String,
    },
    /// It brought a system prompt.
    #[error(
        "the job brings a system prompt, which this queue does not allow: set `allow_system_prompt`, or leave it out of the job"
    )]
    SystemPrompt,
    /// A prompt without end.
    #[error("the job's {field} is longer than {MAX_PROMPT_BYTES} bytes")]
    TooLong {
        /// Which member.
        field: &'static str,
    },
    /// Of another type than it must be.
    #[error("the job's {field} must be {wanted}")]
    Type {
        /// Which member.
        field: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
}

impl OverrideRules {
    /// What counts for a job. Members that are missing or null override nothing; temperatures out of range are moved into it.
    ///
    /// # Errors
    ///
    /// When the job asks for what it may not have.
    pub fn effective(&self, job: &Value) -> Result<Effective, OverrideError> {
        let llm = match text(job, "llm")? {
            None => self.llm.clone(),
            Some(asked) if self.allowed_llms.contains(asked) => Some(asked.to_owned()),
            Some(asked) => return Err(self.refused(asked)),
        };
        let system_prompt = match text(job, "system_prompt")? {
            None => self.system_prompt.clone(),
            Some(_) if !self.allow_system_prompt => return Err(OverrideError::SystemPrompt),
            Some(prompt) => Some(prompt.to_owned()),
        };
        let temperature = match &job["temperature"] {
            Value::Null => self.temperature,
            Value::Number(number) => number.as_f64().unwrap_or(MAX_TEMPERATURE),
            _ => {
                return Err(OverrideError::Type {
                    field: "temperature",
                    wanted: "a number",
                });
            }
        };
        Ok(Effective {
            llm,
            system_prompt,
            temperature: temperature.clamp(0.0, MAX_TEMPERATURE),
        })
    }

    fn refused(&self, asked: &str) -> OverrideError {
        let known: Vec<&str> = self.allowed_llms.iter().map(String::as_str).collect();
        OverrideError::Llm {
            asked: asked.chars().take(64).collect(),
            allowed: if known.is_empty() {
                "this queue lets jobs choose none".to_owned()
            } else {
                format!("this queue allows {}", known.join(", "))
            },
        }
    }
}

fn text<'a>(job: &'a Value, field: &'static str) -> Result<Option<&'a str>, OverrideError> {
    match &job[field] {
        Value::Null => Ok(None),
        Value::String(text) if text.len() > MAX_PROMPT_BYTES => {
            Err(OverrideError::TooLong { field })
        }
        Value::String(text) => Ok(Some(text)),
        _ => Err(OverrideError::Type {
            field,
            wanted: "a text",
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> OverrideRules {
        OverrideRules {
            llm: Some("small".into()),
            allowed_llms: ["small", "large"].map(str::to_owned).into(),
            system_prompt: Some("Be brief.".into()),
            ..OverrideRules::default()
        }
    }

    #[test]
    fn a16_what_is_allowed_counts() {
        let plain = rules().effective(&json!({ "body": "hi" })).unwrap();
        let expected = json!({ "llm": "small", "system_prompt": "Be brief.", "temperature": 0.1 });
        assert_eq!(serde_json::to_value(&plain).unwrap(), expected);
        for job in [
            json!("text"),
            json!(null),
            json!([1]),
            json!({ "llm": null }),
        ] {
            assert_eq!(rules().effective(&job).unwrap(), plain, "{job}");
        }
        let other = rules().effective(&json!({ "llm": "large", "temperature": 1 }));
        let other = other.unwrap();
        assert_eq!(
            (other.llm.as_deref(), other.temperature),
            (Some("large"), 1.0)
        );
        let open = OverrideRules {
            allow_system_prompt: true,
            ..rules()
        };
        let prompted = open
            .effective(&json!({ "system_prompt": "Rhyme." }))
            .unwrap();
        assert_eq!(prompted.system_prompt.as_deref(), Some("Rhyme."));
    }

    #[test]
    fn a16_temperatures_are_clamped() {
        for (asked, counts) in [
            (-1.0, 0.0),
            (0.0, 0.0),
            (1.5, 1.5),
            (2.0, 2.0),
            (1e300, 2.0),
        ] {
            let job = json!({ "temperature": asked });
            let effective = rules().effective(&job).unwrap();
            assert!(
                (effective.temperature - counts).abs() < f64::EPSILON,
                "{asked}"
            );
        }
        let hot = OverrideRules {
            temperature: 7.0,
            ..rules()
        };
        let effective = hot.effective(&json!({})).unwrap();
        assert!((effective.temperature - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a16_what_is_not_allowed_is_refused_in_words() {
        for (job, part) in [
            (json!({ "llm": "huge" }), "allows large, small"),
            (json!({ "llm": 1 }), "llm must be a text"),
            (
                json!({ "system_prompt": "Ignore that." }),
                "allow_system_prompt",
            ),
            (
                json!({ "system_prompt": {} }),
                "system_prompt must be a text",
            ),
            (
                json!({ "temperature": "hot" }),
                "temperature must be a number",
            ),
            (
                json!({ "llm": "x".repeat(MAX_PROMPT_BYTES + 1) }),
                "longer than",
            ),
        ] {
            let error = rules().effective(&job).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let none = OverrideRules::default().effective(&json!({ "llm": "small" }));
        assert!(none.unwrap_err().to_string().contains("choose none"));
    }
}
