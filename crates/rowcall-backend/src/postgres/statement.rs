//! Statements that depend on selectors: rendered once per selector set, then prepared per connection.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use parking_lot::Mutex;
use rowcall_core::{Selector, ports::ClaimOrder};

use super::row::{TASK_NULLS, task_columns, view_columns};
use crate::sql::{
    literal,
    selector::{self, ActivityRow, TableSelector},
};

/// Rendered statements kept at most; the engine asks with a few selector sets all its life.
const KEPT: usize = 64;

/// `$1` claims under the retry rules: few enough failures, and not failed by this machine before, unless its delay is over.
const ELIGIBLE: &str = "(coalesce(a.retry_count, 0) < $3 and (not ($1 = any (coalesce(a.attempted_by, '{}'))) \
                        or ($4 and coalesce(a.retry_at, '-infinity') <= now())))";
const PENDING: &str = "coalesce(a.status, 'pending') = 'pending'";

/// A SQL file without its header comment.
fn body(file: &'static str) -> &'static str {
    let mut rest = file;
    while rest.starts_with("--") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest.trim_end()
}

/// Puts texts into the `{names}` of a template.
fn fill(template: &'static str, values: &[(&str, &str)]) -> String {
    let mut out = body(template).to_owned();
    for (name, value) in values {
        out = out.replace(&format!("{{{name}}}"), value);
    }
    out
}

/// How settlements are written in one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Settling {
    /// Results only: what nearly every batch is, and the cheapest.
    Completed,
    /// Also failures and cancelations.
    Mixed,
}

/// Which claim of a selector set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClaimShape {
    pub(super) retryable: bool,
    pub(super) newest: bool,
    /// Settles in the same statement.
    pub(super) settling: Option<Settling>,
}

impl ClaimShape {
    pub(super) fn new(retryable: bool, order: ClaimOrder, settling: Option<Settling>) -> Self {
        Self {
            retryable,
            newest: order == ClaimOrder::NewestFirst,
            settling,
        }
    }
}

/// What is asked with a selector set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Question {
    Claim(ClaimShape),
    Maintain,
    Sweep { later_page: bool },
}

/// The statements of the selector sets in use.
#[derive(Default)]
pub(super) struct Statements(Mutex<HashMap<(String, Question), Arc<str>>>);

impl Statements {
    /// A claim, alone or with settlements. `$1` machine, `$2` limit, `$3` most attempts, `$4` same machine again; settlements from `$5`.
    pub(super) fn claim(&self, selectors: &[Selector], shape: ClaimShape) -> Arc<str> {
        self.get(selectors, Question::Claim(shape), || match shape.settling {
            None => claim(selectors, shape),
            Some(settling) => fill(
                include_str!("../../sql/postgres/settle_and_claim.sql"),
                &[
                    ("settle", &settle(settling, "$1", 5)),
                    ("claim", &claim(selectors, shape)),
                    ("nulls", TASK_NULLS),
                ],
            ),
        })
    }

    /// `$1` machine, `$2` lease in seconds, `$3` most attempts, `$4` same machine again.
    pub(super) fn maintain(&self, selectors: &[Selector]) -> Arc<str> {
        self.get(selectors, Question::Maintain, || {
            let selected = selector::any(selectors);
            let mut ready = String::new();
            for one in selector::by_table(selectors) {
                let (table, condition) = table_condition(&one);
                let _ = write!(
                    ready,
                    "exists (select from public.rtx_activities a where {PENDING} and a.source_table = {table} and {condition} and {ELIGIBLE}) or "
                );
            }
            let _ = write!(
                ready,
                "exists (select from public.rtx_activities a where a.status = 'failed' and coalesce(a.retry_count, 0) < $3 \
                 and {selected} and {ELIGIBLE})"
            );
            fill(
                include_str!("../../sql/postgres/maintain.sql"),
                &[("ready", &ready), ("selected", &selected), ("eligible", ELIGIBLE)],
            )
        })
    }

    /// `$1` limit, `$2` most attempts; on a later page `$3` time and `$4` id of the last task before.
    pub(super) fn sweep(&self, selectors: &[Selector], later_page: bool) -> Arc<str> {
        self.get(selectors, Question::Sweep { later_page }, || {
            let before = if later_page {
                "(a.created_at, a.id) < ($3::timestamptz, $4::uuid)"
            } else {
                "true"
            };
            let branch = |state: &str, selected: &str| {
                fill(
                    include_str!("../../sql/postgres/sweep_branch.sql"),
                    &[("state", state), ("selected", selected), ("before", before)],
                )
            };
            let mut branches: Vec<String> = selector::by_table(selectors)
                .iter()
                .map(|one| {
                    let (table, condition) = table_condition(one);
                    branch(
                        PENDING,
                        &format!("a.source_table = {table} and {condition}"),
                    )
                })
                .collect();
            branches.push(branch("a.status = 'failed'", &selector::any(selectors)));
            fill(
                include_str!("../../sql/postgres/sweep.sql"),
                &[
                    ("columns", &view_columns("$2")),
                    ("branches", &branches.join(" union all ")),
                ],
            )
        })
    }

    fn get(
        &self,
        selectors: &[Selector],
        question: Question,
        render: impl FnOnce() -> String,
    ) -> Arc<str> {
        // Written out because filters have no hash; a selector's text says all of it.
        let key = selectors.iter().fold(String::new(), |mut key, one| {
            let filter = one.filter.as_ref().map(ToString::to_string);
            let _ = write!(key, "{:?} {:?} {filter:?}; ", one.table, one.events);
            key
        });
        let mut kept = self.0.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        Arc::clone(
            kept.entry((key, question))
                .or_insert_with(|| render().into()),
        )
    }
}

fn table_condition(one: &TableSelector) -> (String, &str) {
    (
        literal(&one.table),
        one.condition.as_deref().unwrap_or("true"),
    )
}

fn claim(selectors: &[Selector], shape: ClaimShape) -> String {
    let direction = if shape.newest { "desc" } else { "asc" };
    let tables = selector::by_table(selectors);
    // A lock on a row that somebody else has just claimed is taken before it shows that the row is no longer pending, and kept.
    // Whoever settles such rows waits for us, so we must wait for nobody by then: settlements come first.
    let asked = match shape.settling {
        None => "$2",
        Some(_) => "($2 + 0 * (select count(*) from settled))",
    };
    // What is tried again goes first: it is older, there is little of it, and the limit on attempts bounds it.
    let limit = &if shape.retryable {
        format!("greatest({asked} - (select count(*) from failed), 0)")
    } else {
        asked.to_owned()
    };
    let pending = match tables.as_slice() {
        [one] => {
            let (table, condition) = table_condition(one);
            fill(
                include_str!("../../sql/postgres/claim_candidates.sql"),
                &[
                    ("table", &table),
                    ("condition", condition),
                    ("eligible", ELIGIBLE),
                    ("direction", direction),
                    ("limit", limit),
                ],
            )
        }
        several => claim_of_tables(several, direction, limit),
    };
    let candidates = if shape.retryable {
        let failed = fill(
            include_str!("../../sql/postgres/claim_failed.sql"),
            &[
                ("selected", &selector::any(selectors)),
                ("eligible", ELIGIBLE),
                ("direction", direction),
                ("limit", asked),
            ],
        );
        format!(
            "with failed as ({failed}) select ctid from failed union all (select p.ctid from ({pending}) p)"
        )
    } else {
        pending
    };
    fill(
        include_str!("../../sql/postgres/claim_next.sql"),
        &[
            ("candidates", &candidates),
            (
                "columns",
                &task_columns(selector::activity_row_for(selectors) == ActivityRow::FromDatabase),
            ),
        ],
    )
}

fn claim_of_tables(tables: &[TableSelector], direction: &str, limit: &str) -> String {
    let (mut values, mut conditions) = (Vec::new(), Vec::new());
    for (number, one) in tables.iter().enumerate() {
        let (table, condition) = table_condition(one);
        values.push(format!("({number}, {table})"));
        conditions.push(format!("when {number} then {condition}"));
    }
    fill(
        include_str!("../../sql/postgres/claim_candidates_of_tables.sql"),
        &[
            ("tables", &values.join(", ")),
            ("conditions", &conditions.join(" ")),
            ("eligible", ELIGIBLE),
            ("direction", direction),
            ("limit", limit),
        ],
    )
}

/// The claim of one named task.
pub(super) fn claim_one() -> String {
    fill(
        include_str!("../../sql/postgres/claim_one.sql"),
        &[("eligible", ELIGIBLE), ("columns", &task_columns(true))],
    )
}

/// Settlements: ids, attempts, results, and for [`Settling::Mixed`] states, errors and delays, from parameter `first` on.
pub(super) fn settle(settling: Settling, machine: &str, first: usize) -> String {
    let names = ["ids", "attempts", "results", "states", "errors", "delays"];
    let numbers: Vec<String> = (first..)
        .take(names.len())
        .map(|number| format!("${number}"))
        .collect();
    let mut values: Vec<(&str, &str)> = names
        .into_iter()
        .zip(numbers.iter().map(String::as_str))
        .collect();
    values.push(("machine", machine));
    match settling {
        Settling::Completed => fill(
            include_str!("../../sql/postgres/settle_completed.sql"),
            &values,
        ),
        Settling::Mixed => fill(include_str!("../../sql/postgres/settle_mixed.sql"), &values),
    }
}

/// One task for people. `$1` id, `$2` most attempts.
pub(super) fn inspect() -> String {
    fill(
        include_str!("../../sql/postgres/inspect.sql"),
        &[("columns", &view_columns("$2"))],
    )
}

/// A list for people; parameters as in the file.
pub(super) fn list() -> String {
    fill(
        include_str!("../../sql/postgres/list.sql"),
        &[("columns", &view_columns("$5"))],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_completely() {
        let table: rowcall_core::TableName = "shop.orders".parse().unwrap();
        let one = Selector {
            table,
            events: rowcall_core::EventSet::ALL,
            filter: Some(rowcall_core::Filter::parse("a=eq.1").unwrap()),
        };
        let two = Selector {
            table: rowcall_core::TableName::activities(),
            ..one.clone()
        };
        let statements = Statements::default();
        for selectors in [&[one.clone()][..], &[one, two]] {
            for settling in [None, Some(Settling::Completed), Some(Settling::Mixed)] {
                for retryable in [false, true] {
                    let shape = ClaimShape::new(retryable, ClaimOrder::OldestFirst, settling);
                    check(&statements.claim(selectors, shape));
                }
            }
            check(&statements.maintain(selectors));
            check(&statements.sweep(selectors, true));
        }
        for sql in [
            claim_one(),
            inspect(),
            list(),
            settle(Settling::Mixed, "$1", 2),
        ] {
            check(&sql);
        }
    }

    #[track_caller]
    fn check(sql: &str) {
        assert!(
            !sql.contains("--"),
            "comments would swallow what is joined behind them: {sql}"
        );
        let open = sql.replace("'{}'", "").replace("'{\"", "");
        assert!(!open.contains('{'), "an unfilled name in {open}");
    }
}
