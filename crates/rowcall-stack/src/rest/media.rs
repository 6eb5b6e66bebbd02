//! Media types: what a client accepts, and what is answered.

use super::error::RestError;
use super::sql::Format;

/// `application/vnd.pgrst.plan`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the options of explain, each on or off"
)]
pub(crate) struct PlanOptions {
    /// JSON rather than text.
    pub json: bool,
    /// `analyze`
    pub analyze: bool,
    /// `verbose`
    pub verbose: bool,
    /// `settings`
    pub settings: bool,
    /// `buffers`
    pub buffers: bool,
    /// `wal`
    pub wal: bool,
}

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Media {
    /// What the body is made of.
    pub format: Format,
    /// Members that are null are left out.
    pub strip_nulls: bool,
    /// The query plan instead of the result.
    pub plan: Option<PlanOptions>,
    /// The value of `Content-Type`.
    pub content_type: String,
}

impl Media {
    fn plain(format: Format, content_type: &str) -> Self {
        Self {
            format,
            strip_nulls: false,
            plan: None,
            content_type: content_type.to_owned(),
        }
    }

    /// Plain JSON.
    pub(crate) fn json() -> Self {
        Self::plain(Format::Json, "application/json; charset=utf-8")
    }

    /// The first acceptable type that can be made. `*/*` and nothing at all mean JSON.
    ///
    /// # Errors
    /// PGRST107
    pub(crate) fn negotiate(accept: &str, plans: bool) -> Result<Self, RestError> {
        let accepted: Vec<&str> = split_list(accept);
        if accepted.is_empty() {
            return Ok(Self::json());
        }
        let mut weighted: Vec<(f32, &str)> = accepted
            .iter()
            .map(|entry| (quality(entry), *entry))
            .collect();
        weighted.sort_by(|a, b| b.0.total_cmp(&a.0));
        weighted
            .iter()
            .find_map(|(_, entry)| Self::make(entry, plans))
            .ok_or_else(|| {
                RestError::media_type(
                    &accepted
                        .iter()
                        .map(|entry| essence(entry))
                        .collect::<Vec<_>>(),
                )
            })
    }

    fn make(entry: &str, plans: bool) -> Option<Self> {
        let stripped = parameter(entry, "nulls").is_some_and(|nulls| nulls == "stripped");
        match essence(entry).as_str() {
            "application/json" | "*/*" | "application/*" => Some(Self::json()),
            "application/vnd.pgrst.object+json" | "application/vnd.pgrst.object" => {
                Some(Self::json_variant(
                    Format::Object,
                    "application/vnd.pgrst.object+json",
                    stripped,
                ))
            }
            "application/vnd.pgrst.array+json" | "application/vnd.pgrst.array" => {
                Some(if stripped {
                    Self::json_variant(Format::Json, "application/vnd.pgrst.array+json", true)
                } else {
                    Self::json()
                })
            }
            "text/csv" => Some(Self::plain(Format::Csv, "text/csv; charset=utf-8")),
            "application/geo+json" => Some(Self::plain(
                Format::GeoJson,
                "application/geo+json; charset=utf-8",
            )),
            "application/vnd.pgrst.plan+json" if plans => Some(Self::plan(entry, true)),
            "application/vnd.pgrst.plan" | "application/vnd.pgrst.plan+text" if plans => {
                Some(Self::plan(entry, false))
            }
            _ => None,
        }
    }

    fn json_variant(format: Format, name: &str, strip_nulls: bool) -> Self {
        let nulls = if strip_nulls { ";nulls=stripped" } else { "" };
        Self {
            format,
            strip_nulls,
            plan: None,
            content_type: format!("{name}{nulls}; charset=utf-8"),
        }
    }

    fn plan(entry: &str, json: bool) -> Self {
        let explained = parameter(entry, "for").unwrap_or_else(|| "application/json".to_owned());
        let inner = Self::make(&explained, false).unwrap_or_else(Self::json);
        let named = parameter(entry, "options").unwrap_or_default();
        let has = |option: &str| named.split('|').any(|name| name == option);
        let options = PlanOptions {
            json,
            analyze: has("analyze"),
            verbose: has("verbose"),
            settings: has("settings"),
            buffers: has("buffers"),
            wal: has("wal"),
        };
        let content_type = format!(
            "application/vnd.pgrst.plan+{}; for=\"{}\"{}; charset=utf-8",
            if json { "json" } else { "text" },
            essence(&inner.content_type),
            if named.is_empty() {
                String::new()
            } else {
                format!("; options={named}")
            },
        );
        Self {
            content_type,
            plan: Some(options),
            ..inner
        }
    }
}

/// Entries of a list header; commas inside quotes do not separate.
fn split_list(header: &str) -> Vec<&str> {
    let mut entries = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, c) in header.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                entries.push(&header[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    entries.push(&header[start..]);
    entries
        .into_iter()
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect()
}

/// The type without parameters, in lower case.
fn essence(entry: &str) -> String {
    entry
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// A parameter of a media type, without quotes.
fn parameter(entry: &str, name: &str) -> Option<String> {
    entry.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn quality(entry: &str) -> f32 {
    parameter(entry, "q")
        .and_then(|quality| quality.parse().ok())
        .unwrap_or(1.0)
}
