//! What an answer depends on, from the preferences of its request.

use super::{Facts, Kind, Planner};
use crate::rest::plan::WriteKind;
use crate::rest::prefer::{Count, Resolution, Return, TxEnd};
use crate::rest::run::End;
use crate::rest::sql::{Format, Shape, Total};

impl Planner<'_> {
    pub(super) fn facts(&self, kind: Kind, offset: i64, without_body: bool) -> Facts {
        let config = &self.loaded.config;
        let preferences = &self.request().preferences;
        let commits = match preferences.tx.filter(|_| config.tx.allows_override()) {
            Some(TxEnd::Commit) => true,
            Some(TxEnd::Rollback) => false,
            None => config.tx.commits(),
        };
        Facts {
            kind,
            media: self.media.clone(),
            without_body,
            head: without_body,
            offset,
            count: preferences.count,
            profile: (config.schemas.len() > 1).then(|| self.schema.to_owned()),
            content_location: None,
            location: None,
            merges: false,
            max_affected: None,
            max_rows: config.max_rows,
            end: if commits { End::Commit } else { End::Rollback },
            applied: Vec::new(),
        }
    }

    /// Fills in what is said of preferences, in the order clients know.
    pub(super) fn applied(&self, facts: &mut Facts, write: Option<WriteKind>, upserts: bool) {
        let preferences = &self.request().preferences;
        let mut add = |name: &str, value: &str| facts.applied.push(format!("{name}={value}"));
        if let Some(resolution) = preferences.resolution.filter(|_| upserts) {
            add(
                "resolution",
                if resolution == Resolution::Ignore {
                    "ignore-duplicates"
                } else {
                    "merge-duplicates"
                },
            );
        }
        if let Some(default) = preferences.missing_default
            && matches!(write, Some(WriteKind::Insert | WriteKind::Update))
        {
            add("missing", if default { "default" } else { "null" });
        }
        if let Some(returning) = preferences.returning.filter(|_| write.is_some()) {
            add(
                "return",
                match returning {
                    Return::Representation => "representation",
                    Return::Minimal => "minimal",
                    Return::HeadersOnly => "headers-only",
                },
            );
        }
        if let Some(count) = preferences.count {
            add(
                "count",
                match count {
                    Count::Exact => "exact",
                    Count::Planned => "planned",
                    Count::Estimated => "estimated",
                },
            );
        }
        if let Some(tx) = preferences
            .tx
            .filter(|_| self.loaded.config.tx.allows_override())
        {
            add(
                "tx",
                if tx == TxEnd::Commit {
                    "commit"
                } else {
                    "rollback"
                },
            );
        }
        if let Some(strict) = preferences.strict {
            add("handling", if strict { "strict" } else { "lenient" });
        }
        if let Some(zone) = self.incoming.timezone {
            add("timezone", zone);
        }
        if let Some(max) = preferences.strict_max_affected() {
            add("max-affected", &max.to_string());
        }
    }

    pub(super) fn shape(facts: &Facts) -> Shape {
        let reads = !matches!(facts.kind, Kind::Write(_));
        Shape {
            format: if facts.without_body {
                Format::Nothing
            } else {
                facts.media.format
            },
            strip_nulls: facts.media.strip_nulls,
            total: match facts.count.filter(|_| reads) {
                Some(Count::Exact) => Total::All,
                Some(Count::Estimated) => Total::UpTo(facts.max_rows + 1),
                // Nothing can be estimated about a function's result but what is there.
                Some(Count::Planned) if facts.kind != Kind::Read => Total::All,
                Some(Count::Planned) | None => Total::Uncounted,
            },
            location: facts.location.is_some(),
        }
    }
}
