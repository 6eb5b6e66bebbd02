//! Who wants which changes, kept in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rowcall_realtime::Version;
use rowcall_realtime::event::Extension;
use rowcall_realtime::join::ChangeEvent;

use super::position::Position;
use super::predicate::Predicate;
use crate::realtime::channel::{Voice, Wanted};
use crate::realtime::outbox::Outbox;
use crate::realtime::token::Identity;
use crate::realtime::topic::ChannelId;

/// A channel that receives changes.
#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) channel: ChannelId,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) version: Version,
    /// Topic as written on the wire.
    pub(crate) topic: Arc<str>,
    pub(crate) join_ref: Option<Box<str>>,
}

impl Audience {
    pub(crate) fn notify(&self, ok: bool, message: &str) {
        let voice = Voice {
            outbox: &self.outbox,
            version: self.version,
            join_ref: self.join_ref.as_deref(),
            topic: &self.topic,
        };
        voice.system(Extension::PostgresChanges, ok, message);
    }
}

/// What one binding wants, checked.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    /// The binding's id.
    pub(crate) id: u32,
    pub(crate) event: ChangeEvent,
    /// `None` for all schemas.
    pub(crate) schema: Option<String>,
    /// `None` for all tables of the schema.
    pub(crate) table: Option<String>,
    pub(crate) predicates: Vec<Predicate>,
    /// Columns wanted besides the primary key; `None` for all.
    pub(crate) select: Option<Vec<String>>,
}

/// What a channel wants, as far as its bindings could be checked.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) identity: Arc<Identity>,
    /// What was asked for, to be checked again when tables change.
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) wants: Vec<Want>,
    /// Tables (schema, name) that are not published; when they are, everything is checked again.
    pub(crate) dormant: Vec<(String, String)>,
    /// What to tell the client.
    pub(crate) notice: Result<(), String>,
    /// Changes at or before this place are not wanted.
    pub(crate) from: Position,
    /// The last change the client has seen, where it asks for what came after.
    pub(crate) since: Option<Position>,
}

/// A binding that is live.
#[derive(Debug)]
pub(crate) struct Interest {
    pub(crate) audience: Arc<Audience>,
    pub(crate) want: Want,
    pub(crate) identity: Arc<Identity>,
    pub(crate) from: Position,
    is_live: AtomicBool,
}

impl Interest {
    pub(crate) fn new(
        audience: Arc<Audience>,
        want: Want,
        identity: Arc<Identity>,
        from: Position,
    ) -> Arc<Self> {
        Arc::new(Self {
            audience,
            want,
            identity,
            from,
            is_live: AtomicBool::new(true),
        })
    }

    /// False once the channel has left or was subscribed anew.
    pub(crate) fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Acquire)
    }
}

/// Interests by what they are about; the number keeps those of one channel apart.
type Shelf = BTreeMap<(ChannelId, u32), Arc<Interest>>;

/// A channel's place in the registry.
#[derive(Debug)]
struct Entry {
    audience: Arc<Audience>,
    identity: Arc<Identity>,
    wanted: Arc<Wanted>,
    interests: Vec<Arc<Interest>>,
    dormant: Vec<(String, String)>,
}

/// All channels that receive changes.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    channels: HashMap<ChannelId, Entry>,
    tables: HashMap<String, HashMap<String, Shelf>>,
    schemas: HashMap<String, Shelf>,
    everything: Shelf,
    /// How many channels have dormant bindings.
    dormant: usize,
    /// Changes whenever the registry does.
    epoch: u64,
}

/// A channel whose bindings have to be checked again, because a table is not what it was.
#[derive(Debug)]
pub(crate) struct Outdated {
    pub(crate) channel: ChannelId,
    pub(crate) identity: Arc<Identity>,
    pub(crate) wanted: Arc<Wanted>,
}

impl Registry {
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Adds a channel, or gives it another subscription.
    pub(crate) fn insert(&mut self, audience: Arc<Audience>, subscription: Subscription) {
        self.remove(audience.channel);
        let Subscription {
            identity,
            wanted,
            wants,
            dormant,
            from,
            ..
        } = subscription;
        let interests: Vec<_> = wants
            .into_iter()
            .map(|want| Interest::new(Arc::clone(&audience), want, Arc::clone(&identity), from))
            .collect();
        for (number, interest) in interests.iter().enumerate() {
            self.shelve(number, interest);
        }
        self.dormant += usize::from(!dormant.is_empty());
        self.epoch += 1;
        self.channels.insert(
            audience.channel,
            Entry {
                audience,
                identity,
                wanted,
                interests,
                dormant,
            },
        );
    }

    /// Gives a channel that is still here another subscription; its audience, or `None` when it has left.
    pub(crate) fn replace(
        &mut self,
        channel: ChannelId,
        subscription: Subscription,
    ) -> Option<Arc<Audience>> {
        let audience = Arc::clone(&self.channels.get(&channel)?.audience);
        self.insert(Arc::clone(&audience), subscription);
        Some(audience)
    }

    fn shelve(&mut self, number: usize, interest: &Arc<Interest>) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let key = (interest.audience.channel, number);
        let place = match (&interest.want.schema, &interest.want.table) {
            (Some(schema), Some(table)) => self
                .tables
                .entry(schema.clone())
                .or_default()
                .entry(table.clone())
                .or_default(),
            (Some(schema), None) => self.schemas.entry(schema.clone()).or_default(),
            (None, _) => &mut self.everything,
        };
        place.insert(key, Arc::clone(interest));
    }

    /// Removes a channel.
    pub(crate) fn remove(&mut self, channel: ChannelId) {
        let Some(entry) = self.channels.remove(&channel) else {
            return;
        };
        self.dormant -= usize::from(!entry.dormant.is_empty());
        self.epoch += 1;
        for (number, interest) in entry.interests.iter().enumerate() {
            interest.is_live.store(false, Ordering::Release);
            let key = (channel, u32::try_from(number).unwrap_or(u32::MAX));
            self.unshelve(interest, key);
        }
    }

    fn unshelve(&mut self, interest: &Interest, key: (ChannelId, u32)) {
        match (&interest.want.schema, &interest.want.table) {
            (Some(schema), Some(table)) => {
                let Some(tables) = self.tables.get_mut(schema) else {
                    return;
                };
                if let Some(shelf) = tables.get_mut(table) {
                    shelf.remove(&key);
                    if shelf.is_empty() {
                        tables.remove(table);
                    }
                }
                if tables.is_empty() {
                    self.tables.remove(schema);
                }
            }
            (Some(schema), None) => {
                if let Some(shelf) = self.schemas.get_mut(schema) {
                    shelf.remove(&key);
                    if shelf.is_empty() {
                        self.schemas.remove(schema);
                    }
                }
            }
            (None, _) => {
                self.everything.remove(&key);
            }
        }
    }

    /// All interests in a table.
    pub(crate) fn interests(&self, schema: &str, table: &str) -> Vec<Arc<Interest>> {
        let by_table = self.tables.get(schema).and_then(|tables| tables.get(table));
        let shelves = [by_table, self.schemas.get(schema), Some(&self.everything)];
        shelves
            .into_iter()
            .flatten()
            .flat_map(|shelf| shelf.values().cloned())
            .collect()
    }

    /// Channels that wait for a table to be published.
    pub(crate) fn dormant(&self, schema: &str, table: &str) -> Vec<Outdated> {
        if self.dormant == 0 {
            return Vec::new();
        }
        let is_named = |entry: &Entry| {
            entry
                .dormant
                .iter()
                .any(|name| name.0 == schema && name.1 == table)
        };
        self.channels
            .iter()
            .filter(|(_, entry)| is_named(entry))
            .map(|(&channel, entry)| outdated(channel, entry))
            .collect()
    }

    /// What a channel asked for.
    pub(crate) fn outdated(&self, channel: ChannelId) -> Option<Outdated> {
        self.channels
            .get(&channel)
            .map(|entry| outdated(channel, entry))
    }

    /// The outboxes of all channels.
    pub(crate) fn outboxes(&self) -> Vec<Arc<Outbox>> {
        self.channels
            .values()
            .map(|entry| Arc::clone(&entry.audience.outbox))
            .collect()
    }
}

fn outdated(channel: ChannelId, entry: &Entry) -> Outdated {
    Outdated {
        channel,
        identity: Arc::clone(&entry.identity),
        wanted: Arc::clone(&entry.wanted),
    }
}
