//! Takes decoded messages to their subscribers, in order, one batch at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rowcall_realtime::binary::Encoding;
use uuid::Uuid;

use super::State;
use super::deliver::{self, Planned};
use super::pgoutput::{Cell, Message, RelationMessage, Tuple};
use super::plan::Plan;
use super::position::Position;
use super::record::{Change, Row};
use super::relation::Relation;
use super::ring::Ring;
use super::settle::Transactions;
use super::subscription::{Audience, Interest, Outdated, Registry, Subscription};
use crate::realtime::database::QueryError;
use crate::realtime::message::Body;
use crate::realtime::outbox;
use crate::realtime::topic::StoredOrigin;

/// How soon a batch is tried again when the database cannot be asked.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A message with its place.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) position: Position,
    /// Id of the transaction, without its epoch.
    pub(crate) transaction: u32,
    pub(crate) committed_at: Timestamp,
    pub(crate) message: Message,
}

/// A client that comes back and wants what it missed.
#[derive(Debug)]
pub(crate) struct CatchUp {
    pub(crate) audience: Arc<Audience>,
    pub(crate) subscription: Subscription,
    pub(crate) since: Position,
}

/// What is known of the tables and of who is to get what.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    state: Arc<State>,
    tables: HashMap<u32, Table>,
    ring: Ring,
}

#[derive(Debug)]
struct Table {
    message: RelationMessage,
    relation: Loaded,
    plan: Option<(u64, Arc<Plan>)>,
}

/// The catalogs' part of a table, loaded when its first change comes.
#[derive(Debug)]
enum Loaded {
    NotYet,
    /// The table has been dropped.
    Gone,
    Relation(Arc<Relation>),
}

impl Dispatcher {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self {
            ring: Ring::new(state.limits.ring_bytes),
            state,
            tables: HashMap::new(),
        }
    }

    /// A new session describes every table again before its first change.
    pub(crate) fn session_started(&mut self) {
        self.tables.clear();
    }

    /// Handles a batch. Comes back when everything is queued for its receivers; until the database can be asked, it waits.
    pub(crate) async fn process(&mut self, batch: Vec<Placed>) {
        let mut changes = Vec::with_capacity(batch.len());
        let mut transactions = Transactions::of(&batch);
        for placed in batch {
            self.prepare(placed, &mut transactions, &mut changes).await;
        }
        if changes.is_empty() {
            return;
        }
        let mut plans = Vec::with_capacity(changes.len());
        for change in &changes {
            plans.push(self.plan(change).await);
        }
        let planned: Vec<Planned<'_>> = changes
            .iter()
            .zip(&plans)
            .filter(|(_, plan)| !plan.is_empty())
            .map(|(change, plan)| (&**change, &**plan))
            .collect();
        self.deliver(&planned, &mut transactions).await;
        for change in changes {
            self.ring.push(change);
        }
    }

    async fn deliver(&self, planned: &[Planned<'_>], transactions: &mut Transactions) {
        let limits = &self.state.limits;
        for batch in planned.chunks(limits.visibility_batch.max(1)) {
            let resolved = loop {
                match deliver::resolve(&self.state.database, limits, batch, transactions).await {
                    Ok(resolved) => break resolved,
                    Err(error) => {
                        self.pause("row level security cannot be checked", &error)
                            .await;
                    }
                }
            };
            deliver::send(limits, batch, &resolved).await;
        }
    }

    /// Changes are never left out because the database does not answer: reading goes on when it does.
    async fn pause(&self, what: &'static str, error: &QueryError) {
        tracing::warn!(%error, what, "changes wait for the database");
        tokio::time::sleep(RETRY_PAUSE).await;
    }

    /// Takes one message in: tables are noted, broadcasts are sent, changes are collected.
    async fn prepare(
        &mut self,
        placed: Placed,
        transactions: &mut Transactions,
        changes: &mut Vec<Arc<Change>>,
    ) {
        let (oid, row) = match placed.message {
            Message::Relation(message) => {
                self.tables.insert(
                    message.oid,
                    Table {
                        message,
                        relation: Loaded::NotYet,
                        plan: None,
                    },
                );
                return;
            }
            Message::Insert { relation, new } => (relation, Row::Insert { new }),
            Message::Update { relation, old, new } => (relation, Row::Update { old, new }),
            Message::Delete { relation, old } => (relation, Row::Delete { old }),
            Message::Other => return,
        };
        let Some(table) = self.tables.get(&oid) else {
            tracing::error!(oid, "a change of a table that was not described");
            return;
        };
        if let (true, Row::Insert { new }) = (is_messages(&table.message), &row) {
            self.broadcast(&table.message, new, placed.position.commit)
                .await;
        }
        let Some(relation) = self.relation(oid, transactions).await else {
            return;
        };
        if relation.is_published {
            changes.push(Arc::new(Change {
                relation,
                position: placed.position,
                committed_at: placed.committed_at,
                row,
            }));
        }
    }

    /// The table, loaded once for each description. When it was loaded just now, channels that wait for it are subscribed.
    async fn relation(
        &mut self,
        oid: u32,
        transactions: &mut Transactions,
    ) -> Option<Arc<Relation>> {
        let table = self.tables.get(&oid)?;
        match &table.relation {
            Loaded::NotYet => {}
            Loaded::Gone => return None,
            Loaded::Relation(relation) => return Some(Arc::clone(relation)),
        }
        let relation = loop {
            let load = async {
                // The table may have been made or changed in the transaction at hand.
                transactions.settle(&self.state.database).await?;
                let client = self.state.database.check_connection().await?;
                Ok::<_, QueryError>(Relation::load(&client, &table.message).await?)
            };
            match load.await {
                Ok(relation) => break relation.map(Arc::new),
                Err(error) => self.pause("a table cannot be looked up", &error).await,
            }
        };
        if let Some(relation) = relation.as_ref().filter(|relation| relation.is_published) {
            let dormant = self
                .state
                .registry
                .read()
                .dormant(&relation.schema, &relation.table);
            self.check_again(dormant).await;
        }
        let table = self.tables.get_mut(&oid)?;
        table.relation = relation.as_ref().map_or(Loaded::Gone, |relation| {
            Loaded::Relation(Arc::clone(relation))
        });
        relation
    }

    /// The plan for a change, made anew when the subscribers have changed.
    async fn plan(&mut self, change: &Change) -> Arc<Plan> {
        loop {
            let plan = self.current_plan(change).await;
            if plan.outdated.is_empty() {
                return plan;
            }
            let outdated: Vec<Outdated> = {
                let registry = self.state.registry.read();
                plan.outdated
                    .iter()
                    .filter_map(|&channel| registry.outdated(channel))
                    .collect()
            };
            if outdated.is_empty() {
                return plan;
            }
            self.check_again(outdated).await;
        }
    }

    async fn current_plan(&mut self, change: &Change) -> Arc<Plan> {
        let relation = &change.relation;
        let (epoch, interests) = {
            let registry = self.state.registry.read();
            let epoch = registry.epoch();
            if let Some(table) = self.tables.get(&relation.oid)
                && let Some((known, plan)) = &table.plan
                && *known == epoch
                && Arc::ptr_eq(&plan.relation, relation)
            {
                return Arc::clone(plan);
            }
            (epoch, registry.interests(&relation.schema, &relation.table))
        };
        let plan = Arc::new(self.build(relation, interests).await);
        if let Some(table) = self.tables.get_mut(&relation.oid) {
            table.plan = Some((epoch, Arc::clone(&plan)));
        }
        plan
    }

    async fn build(&self, relation: &Arc<Relation>, interests: Vec<Arc<Interest>>) -> Plan {
        loop {
            let build = async {
                let client = self.state.database.check_connection().await?;
                Ok::<_, QueryError>(
                    Plan::build(&client, Arc::clone(relation), interests.clone()).await?,
                )
            };
            match build.await {
                Ok(plan) => return plan,
                Err(error) => self.pause("subscribers cannot be looked up", &error).await,
            }
        }
    }

    /// Checks the bindings of channels again and tells them what came of it. What they get does not depend on when.
    async fn check_again(&self, channels: Vec<Outdated>) {
        for outdated in channels {
            let mut subscription = loop {
                match self
                    .state
                    .check(&outdated.identity, &outdated.wanted, None)
                    .await
                {
                    Ok(subscription) => break subscription,
                    Err(error) => self.pause("subscriptions cannot be checked", &error).await,
                }
            };
            // The change at hand is wanted, too, though it lies before the check.
            subscription.from = Position::default();
            let notice = subscription.notice.clone();
            let audience = self
                .state
                .registry
                .write()
                .replace(outdated.channel, subscription);
            if let Some(audience) = audience {
                match notice {
                    Ok(()) => audience.notify(true, super::SUBSCRIBED),
                    Err(message) => audience.notify(false, &message),
                }
            }
        }
    }

    /// Sends a client what it missed and makes it live. Between the two nothing happens, because this task does both.
    pub(crate) async fn catch_up(&mut self, catch_up: CatchUp) {
        let CatchUp {
            audience,
            mut subscription,
            since,
        } = catch_up;
        let (missed, is_complete) = self.ring.after(since);
        if !is_complete {
            tracing::debug!(%since, "a client came back too late for some changes");
        }
        subscription.from = since;
        let mut registry = Registry::default();
        let wants = subscription.wants.clone();
        let (identity, wanted) = (
            Arc::clone(&subscription.identity),
            Arc::clone(&subscription.wanted),
        );
        registry.insert(
            Arc::clone(&audience),
            Subscription {
                identity,
                wanted,
                wants,
                dormant: Vec::new(),
                notice: Ok(()),
                from: since,
                since: None,
            },
        );
        let mut plans: HashMap<usize, Arc<Plan>> = HashMap::new();
        for change in &missed {
            let key = Arc::as_ptr(&change.relation).addr();
            if let Entry::Vacant(vacant) = plans.entry(key) {
                let interests = registry.interests(&change.relation.schema, &change.relation.table);
                vacant.insert(Arc::new(self.build(&change.relation, interests).await));
            }
        }
        let planned: Vec<Planned<'_>> = missed
            .iter()
            .map(|change| (&**change, &*plans[&Arc::as_ptr(&change.relation).addr()]))
            .filter(|(_, plan)| !plan.is_empty())
            .collect();
        // All of it was handled before, so it is long settled.
        self.deliver(&planned, &mut Transactions::default()).await;
        self.state.go_live(audience, subscription);
    }

    /// Sends a row of `realtime.messages` to its topic.
    async fn broadcast(&self, table: &RelationMessage, row: &Tuple, commit: u64) {
        let text = |name: &str| {
            let column = table
                .columns
                .iter()
                .position(|column| column.name == name)?;
            match row.get(column) {
                Cell::Text(text) => std::str::from_utf8(text).ok(),
                Cell::Null | Cell::Unchanged => None,
            }
        };
        let (Some(topic), Some(event)) = (text("topic"), text("event")) else {
            return;
        };
        let Some(id) = text("id").and_then(|id| Uuid::parse_str(id).ok()) else {
            return;
        };
        if text("skip_broadcast") == Some("t") {
            return;
        }
        let private = text("private") == Some("t");
        let binary;
        let (encoding, payload) = match (text("payload"), text("binary_payload")) {
            (Some(json), _) => (Encoding::Json, json.as_bytes()),
            (None, Some(hex)) => {
                let Ok(bytes) = hex::decode(hex.trim_start_matches(r"\x")) else {
                    return;
                };
                binary = bytes;
                (Encoding::Binary, &binary[..])
            }
            (None, None) => return,
        };
        if payload.len() > self.state.limits.broadcast_bytes {
            tracing::warn!(
                topic,
                event,
                bytes = payload.len(),
                "a message from the database is too large; it is dropped"
            );
            return;
        }
        let meta = format!(r#"{{"id":"{id}"}}"#);
        let body = Body::Event {
            event,
            meta: &meta,
            encoding,
            payload,
        };
        let pressed =
            self.state
                .hub
                .broadcast(topic, private, body, Some(StoredOrigin { id, commit }));
        if !pressed.is_empty() {
            outbox::relieve(&pressed, self.state.limits.slow_patience).await;
        }
    }
}

/// Whether a table is `realtime.messages` or one of its daily partitions, under whose name rows come when the publication was
/// made by others.
fn is_messages(table: &RelationMessage) -> bool {
    let is_day = |name: &str| {
        name == "default"
            || (name.len() == 10
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'_'))
    };
    table.schema == "realtime"
        && (table.table == "messages" || table.table.strip_prefix("messages_").is_some_and(is_day))
}
