//! Who gets the changes of one table, worked out once and used until the table or the subscribers change.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;

use super::record::{Change, ColumnSet, Seen};
use super::relation::{Access, Relation};
use super::subscription::Interest;
use crate::realtime::token::Identity;
use crate::realtime::topic::ChannelId;

/// The audience of a table.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) relation: Arc<Relation>,
    /// Sorted by topic, protocol version and channel: neighbours often share a frame, and a channel's bindings are together.
    pub(crate) places: Vec<Place>,
    pub(crate) column_sets: Vec<ColumnSet>,
    /// Those whose rows are checked against row level security.
    pub(crate) groups: Vec<Arc<Identity>>,
    /// Places by the text one column must have.
    exact: Vec<(usize, HashMap<String, Vec<usize>>)>,
    /// Places every change has to be compared with.
    scanned: Vec<usize>,
    /// Places that get an error for every insert and update, filters or not.
    refused: Vec<usize>,
    /// Channels whose filters were checked against another type of column.
    pub(crate) outdated: Vec<ChannelId>,
}

/// One binding of one channel.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) interest: Arc<Interest>,
    pub(crate) columns: usize,
    /// The group whose row level security decides; `None` where none applies.
    pub(crate) group: Option<usize>,
    /// For each predicate the column it looks at.
    pub(crate) predicate_columns: Vec<usize>,
}

impl Plan {
    /// Works out the audience. Asks the database what each role may see.
    pub(crate) async fn build(
        client: &Client,
        relation: Arc<Relation>,
        mut interests: Vec<Arc<Interest>>,
    ) -> Result<Self, tokio_postgres::Error> {
        interests.sort_by(|a, b| {
            let key = |interest: &Interest| {
                let audience = &interest.audience;
                (
                    Arc::clone(&audience.topic),
                    audience.version as u8,
                    audience.channel,
                )
            };
            key(a).cmp(&key(b))
        });
        let mut plan = Self {
            relation: Arc::clone(&relation),
            places: Vec::with_capacity(interests.len()),
            column_sets: Vec::new(),
            groups: Vec::new(),
            exact: Vec::new(),
            scanned: Vec::new(),
            refused: Vec::new(),
            outdated: Vec::new(),
        };
        let mut roles: HashMap<Arc<str>, Access> = HashMap::new();
        let mut groups: HashMap<Arc<Identity>, usize> = HashMap::new();
        let mut by_role: HashMap<Arc<str>, usize> = HashMap::new();
        for interest in interests {
            let role = &interest.identity.role;
            if !roles.contains_key(role) {
                let access = relation.access(client, role).await?;
                roles.insert(Arc::clone(role), access);
            }
            let access = &roles[role];
            let columns = plan.column_set(access, interest.want.select.as_deref());
            let is_refused = plan.column_sets[columns].is_refused();
            let group = (relation.has_policies && !access.bypasses && !is_refused).then(|| {
                let next = plan.groups.len();
                let group = if relation.claims_matter {
                    *groups.entry(Arc::clone(&interest.identity)).or_insert(next)
                } else {
                    *by_role.entry(Arc::clone(role)).or_insert(next)
                };
                if group == next {
                    plan.groups.push(Arc::clone(&interest.identity));
                }
                group
            });
            plan.add(interest, access, columns, group);
        }
        Ok(plan)
    }

    fn column_set(&mut self, access: &Access, select: Option<&[String]>) -> usize {
        let set = ColumnSet::new(&self.relation, &access.selectable, select);
        let known = self.column_sets.iter().position(|known| *known == set);
        known.unwrap_or_else(|| {
            self.column_sets.push(set);
            self.column_sets.len() - 1
        })
    }

    fn add(
        &mut self,
        interest: Arc<Interest>,
        access: &Access,
        columns: usize,
        group: Option<usize>,
    ) {
        let mut predicate_columns = Vec::new();
        let mut is_blind = false;
        for predicate in &interest.want.predicates {
            match self.relation.column(&predicate.column) {
                Some(column) if self.relation.columns[column].type_oid == predicate.type_oid => {
                    // A filter on a column the role may no longer see would tell its value.
                    is_blind |= !access.selectable[column];
                    predicate_columns.push(column);
                }
                _ => {
                    self.outdated.push(interest.audience.channel);
                    is_blind = true;
                }
            }
        }
        let place = self.places.len();
        if self.column_sets[columns].is_refused() {
            self.refused.push(place);
        }
        if !is_blind {
            self.index(place, &interest, &predicate_columns);
        }
        self.places.push(Place {
            interest,
            columns,
            group,
            predicate_columns,
        });
    }

    fn index(&mut self, place: usize, interest: &Interest, predicate_columns: &[usize]) {
        let exact = interest
            .want
            .predicates
            .iter()
            .zip(predicate_columns)
            .find_map(|(predicate, &column)| Some((column, predicate.exact()?)));
        let Some((column, text)) = exact else {
            self.scanned.push(place);
            return;
        };
        let known = self.exact.iter().position(|(known, _)| *known == column);
        let index = known.unwrap_or_else(|| {
            self.exact.push((column, HashMap::new()));
            self.exact.len() - 1
        });
        self.exact[index]
            .1
            .entry(text.to_owned())
            .or_default()
            .push(place);
    }

    /// Places that get an error for this change whatever their filters say.
    pub(crate) fn refused(&self) -> &[usize] {
        &self.refused
    }

    /// Places whose filters may let a change through, in order.
    pub(crate) fn candidates(&self, change: &Change) -> Vec<usize> {
        let mut candidates = self.scanned.clone();
        for (column, places) in &self.exact {
            if let Seen::Text(text) = change.filter_value(*column)
                && let Some(found) = places.get(text)
            {
                candidates.extend_from_slice(found);
            }
        }
        if !self.exact.is_empty() {
            candidates.sort_unstable();
        }
        candidates
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}
