//! From changes to frames.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rowcall_realtime::join::ChangeEvent;
use rowcall_realtime::{Outgoing, Version, event};

use super::plan::{Place, Plan};
use super::predicate::Verdict;
use super::question::{Asked, Questions};
use super::record::{Change, Seen};
use super::settle::Transactions;
use super::visibility::{self, Check, Sight};
use crate::realtime::database::{Database, QueryError};
use crate::realtime::limits::Limits;
use crate::realtime::message::encode;
use crate::realtime::outbox::{self, Outbox, Pressure};

/// A change with the plan of its table.
pub(crate) type Planned<'a> = (&'a Change, &'a Plan);

/// What groups whose policy raised are told.
const POLICY_FAILED: &str = "Error 500: Internal Server Error";

/// A place whose filters let a change through, or will if PostgreSQL says so.
struct Matched {
    place: usize,
    asked: Vec<Asked>,
}

/// Who gets what of a batch, worked out before the first frame is sent.
pub(crate) struct Resolved {
    /// For each change the places, with what row level security says.
    places: Vec<Vec<(usize, Sight)>>,
}

/// Evaluates filters and row level security of a batch. Nothing is sent yet, so this can be done again if it fails.
///
/// # Errors
/// When the database cannot be asked.
pub(crate) async fn resolve(
    database: &Database,
    limits: &Limits,
    batch: &[Planned<'_>],
    transactions: &mut Transactions,
) -> Result<Resolved, QueryError> {
    let mut questions = Questions::default();
    let matched: Vec<Vec<Matched>> = batch
        .iter()
        .map(|planned| filter(&mut questions, planned))
        .collect();
    if !questions.is_empty() {
        let client = database.check_connection().await?;
        questions.answer(&client).await?;
    }
    let keys: Vec<Option<Vec<&str>>> = batch
        .iter()
        .map(|(change, _)| change.current_key())
        .collect();
    let mut checks: Vec<Check<'_>> = Vec::new();
    let mut check_of: HashMap<(usize, usize), usize> = HashMap::new();
    // For each change and group the check and its row.
    let mut rows: Vec<Vec<Option<(usize, usize)>>> = Vec::with_capacity(batch.len());
    for (((change, plan), matched), key) in batch.iter().zip(&matched).zip(&keys) {
        let mut row_of = vec![None; plan.groups.len()];
        if let Some(key) = key
            && change.kind() != ChangeEvent::Delete
        {
            for one in matched {
                let Some(group) = plan.places[one.place].group else {
                    continue;
                };
                if row_of[group].is_some() || !holds(&questions, one) {
                    continue;
                }
                let plan_and_group = (std::ptr::from_ref(*plan).addr(), group);
                let check = *check_of.entry(plan_and_group).or_insert_with(|| {
                    checks.push(Check {
                        relation: &plan.relation,
                        identity: &plan.groups[group],
                        keys: Vec::new(),
                    });
                    checks.len() - 1
                });
                row_of[group] = Some((check, checks[check].keys.len()));
                checks[check].keys.push(key);
            }
        }
        rows.push(row_of);
    }
    let sights = if checks.is_empty() {
        Vec::new()
    } else {
        transactions.settle(database).await?;
        visibility::check(database, limits.visibility_connections, &checks).await?
    };
    let places = batch
        .iter()
        .zip(&matched)
        .zip(&rows)
        .map(|(((change, plan), matched), row_of)| {
            let sight = |place: &Place| match place.group {
                // Deletes are not checked: there is no row left to look at.
                None => Sight::Visible,
                Some(_) if change.kind() == ChangeEvent::Delete => Sight::Visible,
                Some(group) => row_of[group]
                    .map_or(Sight::Hidden, |(check, row): (usize, usize)| {
                        sights[check][row]
                    }),
            };
            matched
                .iter()
                .filter(|one| holds(&questions, one))
                .map(|one| (one.place, sight(&plan.places[one.place])))
                .filter(|&(_, sight)| sight != Sight::Hidden)
                .collect()
        })
        .collect();
    Ok(Resolved { places })
}

fn holds(questions: &Questions<'_>, matched: &Matched) -> bool {
    matched.asked.iter().all(|&asked| questions.holds(asked))
}

/// The places whose filters let a change through, in order.
fn filter<'a>(questions: &mut Questions<'a>, &(change, plan): &Planned<'a>) -> Vec<Matched> {
    let kind = change.kind();
    let wants = |place: &Place| {
        let interest = &place.interest;
        interest.want.event.covers(kind) && interest.from < change.position && interest.is_live()
    };
    let mut matched = Vec::new();
    for index in plan.candidates(change) {
        let place = &plan.places[index];
        if !wants(place) {
            continue;
        }
        if kind != ChangeEvent::Delete && plan.column_sets[place.columns].is_refused() {
            continue;
        }
        if let Some(asked) = apply(questions, change, place) {
            matched.push(Matched {
                place: index,
                asked,
            });
        }
    }
    if kind != ChangeEvent::Delete {
        let refused = plan.refused().iter().copied();
        matched.extend(
            refused
                .filter(|&index| wants(&plan.places[index]))
                .map(|place| Matched {
                    place,
                    asked: Vec::new(),
                }),
        );
        matched.sort_by_key(|matched| matched.place);
    }
    matched
}

/// Applies all predicates of a place; what is still to be asked, or `None` when one does not hold.
fn apply<'a>(
    questions: &mut Questions<'a>,
    change: &'a Change,
    place: &'a Place,
) -> Option<Vec<Asked>> {
    let interest = &place.interest;
    let mut asked = Vec::new();
    for (predicate, &column) in interest
        .want
        .predicates
        .iter()
        .zip(&place.predicate_columns)
    {
        let value = match change.filter_value(column) {
            Seen::Unknown => return None,
            Seen::Null => None,
            Seen::Text(text) => Some(text),
        };
        match predicate.apply(value) {
            Verdict::Holds => {}
            Verdict::Fails => return None,
            Verdict::Ask(question) => asked.push(questions.ask(
                question,
                predicate.is_negated(),
                &interest.identity,
                value.unwrap_or_default(),
            )),
        }
    }
    Some(asked)
}

/// Sends what was worked out, in order. Between two changes it waits for sockets that are getting full, so that a burst does
/// not close those that read.
pub(crate) async fn send(limits: &Limits, batch: &[Planned<'_>], resolved: &Resolved) {
    for (&planned, places) in batch.iter().zip(&resolved.places) {
        let pressed = send_one(limits, planned, places);
        if !pressed.is_empty() {
            outbox::relieve(&pressed, limits.slow_patience).await;
        }
    }
}

/// Sends one change. Returns the outboxes that are getting full.
fn send_one(
    limits: &Limits,
    (change, plan): Planned<'_>,
    places: &[(usize, Sight)],
) -> Vec<Arc<Outbox>> {
    let mut pressed: Vec<Arc<Outbox>> = Vec::new();
    let mut writer = Writer::new(change, plan, limits.change_bytes);
    let mut rest = places;
    while let Some(&(first, _)) = rest.first() {
        let audience = &plan.places[first].interest.audience;
        let same_channel = |&&(place, _): &&(usize, Sight)| {
            plan.places[place].interest.audience.channel == audience.channel
        };
        let count = rest.iter().take_while(same_channel).count();
        let (mine, others) = rest.split_at(count);
        rest = others;
        for frame in writer.frames(mine) {
            if audience.outbox.push(frame) == Pressure::High {
                pressed.push(Arc::clone(&audience.outbox));
            }
        }
    }
    pressed
}

/// Which data a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Columns(usize),
    Failed,
}

/// Writes the frames of one change. Data is written once per set of columns, frames once per topic, version and ids.
struct Writer<'a> {
    change: &'a Change,
    plan: &'a Plan,
    limit: usize,
    data: Vec<Option<String>>,
    failed: Option<String>,
    last: Option<Last>,
}

struct Last {
    topic: Arc<str>,
    version: Version,
    ids: Vec<u32>,
    variant: Variant,
    frame: Bytes,
}

impl<'a> Writer<'a> {
    fn new(change: &'a Change, plan: &'a Plan, limit: usize) -> Self {
        Self {
            change,
            plan,
            limit,
            data: vec![None; plan.column_sets.len()],
            failed: None,
            last: None,
        }
    }

    /// The frames for one channel: one, unless its bindings select different columns.
    fn frames(&mut self, places: &[(usize, Sight)]) -> Vec<Bytes> {
        let mut variants: Vec<(Variant, Vec<u32>)> = Vec::with_capacity(1);
        for &(place, sight) in places {
            let place = &self.plan.places[place];
            let variant = match sight {
                Sight::Failed => Variant::Failed,
                Sight::Visible | Sight::Hidden => Variant::Columns(place.columns),
            };
            let id = place.interest.want.id;
            match variants.iter_mut().find(|(known, _)| *known == variant) {
                Some((_, ids)) if ids.contains(&id) => {}
                Some((_, ids)) => ids.push(id),
                None => variants.push((variant, vec![id])),
            }
        }
        let audience = &self.plan.places[places[0].0].interest.audience;
        variants
            .into_iter()
            .map(|(variant, ids)| self.frame(&audience.topic, audience.version, variant, ids))
            .collect()
    }

    fn frame(
        &mut self,
        topic: &Arc<str>,
        version: Version,
        variant: Variant,
        ids: Vec<u32>,
    ) -> Bytes {
        if let Some(last) = &self.last
            && last.topic == *topic
            && last.version == version
            && last.variant == variant
            && last.ids == ids
        {
            return last.frame.clone();
        }
        let numbers: Vec<String> = ids.iter().map(u32::to_string).collect();
        let payload = format!(
            r#"{{"ids":[{}],"data":{}}}"#,
            numbers.join(","),
            self.data(variant)
        );
        let frame = encode(
            version,
            &Outgoing {
                join_ref: None,
                reference: None,
                topic,
                event: event::POSTGRES_CHANGES,
                payload: &payload,
            },
        );
        self.last = Some(Last {
            topic: Arc::clone(topic),
            version,
            ids,
            variant,
            frame: frame.clone(),
        });
        frame
    }

    fn data(&mut self, variant: Variant) -> &str {
        match variant {
            Variant::Failed => self
                .failed
                .get_or_insert_with(|| self.change.refused(POLICY_FAILED)),
            Variant::Columns(set) => self.data[set]
                .get_or_insert_with(|| self.change.data(&self.plan.column_sets[set], self.limit)),
        }
    }
}
