//! Comparisons that PostgreSQL makes for us, many values at a time.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::predicate::Question;
use crate::realtime::token::Identity;

const SETTINGS: &str = include_str!("../../../sql/realtime/settings.sql");

/// One value of one question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    question: usize,
    value: usize,
}

/// The questions of a batch of changes, and their answers.
#[derive(Debug, Default)]
pub(crate) struct Questions<'a> {
    index: HashMap<(&'a Question, bool, &'a str), usize>,
    all: Vec<Pending<'a>>,
}

#[derive(Debug)]
struct Pending<'a> {
    question: &'a Question,
    negated: bool,
    identity: &'a Arc<Identity>,
    values: Vec<&'a str>,
    index: HashMap<&'a str, usize>,
    holds: Vec<bool>,
}

impl<'a> Questions<'a> {
    /// Notes that the answer for `value` is needed. The comparison is made as the subscriber's role: operators of users' types
    /// run users' code.
    pub(crate) fn ask(
        &mut self,
        question: &'a Question,
        negated: bool,
        identity: &'a Arc<Identity>,
        value: &'a str,
    ) -> Asked {
        let key = (question, negated, &*identity.role);
        let number = *self.index.entry(key).or_insert_with(|| {
            self.all.push(Pending {
                question,
                negated,
                identity,
                values: Vec::new(),
                index: HashMap::new(),
                holds: Vec::new(),
            });
            self.all.len() - 1
        });
        let pending = &mut self.all[number];
        let value = *pending.index.entry(value).or_insert_with(|| {
            pending.values.push(value);
            pending.values.len() - 1
        });
        Asked {
            question: number,
            value,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether the comparison holds; call after [`Questions::answer`].
    pub(crate) fn holds(&self, asked: Asked) -> bool {
        self.all[asked.question]
            .holds
            .get(asked.value)
            .copied()
            .unwrap_or(false)
    }

    /// Asks the database. A comparison that raises does not hold for any value.
    ///
    /// # Errors
    /// Only when the connection fails.
    pub(crate) async fn answer(&mut self, client: &Client) -> Result<(), tokio_postgres::Error> {
        for pending in &mut self.all {
            pending.holds = vec![false; pending.values.len()];
            let sql = pending.question.sql(pending.negated);
            let literals = pending.question.literals();
            let parameters: [(&(dyn ToSql + Sync), Type); 2] = [
                (&pending.values, Type::TEXT_ARRAY),
                (&literals, Type::TEXT_ARRAY),
            ];
            let settings: [(&(dyn ToSql + Sync), Type); 2] = [
                (&&*pending.identity.role, Type::TEXT),
                (&&*pending.identity.claims, Type::TEXT),
            ];
            let (begin, set, answer, _) = tokio::join!(
                biased;
                client.batch_execute("begin"),
                client.query_typed(SETTINGS, &settings),
                client.query_typed(&sql, &parameters),
                client.batch_execute("rollback"),
            );
            begin?;
            let answer = set.and(answer);
            match answer {
                Ok(rows) => {
                    for row in rows {
                        let number: i64 = row.get(0);
                        let place = usize::try_from(number - 1).ok();
                        if let Some(holds) = place.and_then(|place| pending.holds.get_mut(place)) {
                            *holds = true;
                        }
                    }
                }
                Err(error) if error.as_db_error().is_some() => {
                    tracing::warn!(%error, "a filter cannot be evaluated; it matches nothing");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
