//! Joining a channel: what has to be looked up first, then the moment in which it becomes live.
//!
//! [`prepare`] asks the database and changes nothing, so a join that is given up leaves nothing behind. [`Prepared::enter`]
//! makes the channel live in one step: reply, replayed messages, presence state and notices are queued while nothing else
//! can be sent to it, so everything it receives follows its reply, and nothing after its reply is missed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rowcall_realtime::Version;
use rowcall_realtime::event::{self, Extension};
use rowcall_realtime::join::{Binding, Join, Replay, binding_ids};
use serde_json::Value;
use tokio::time::Instant;

use super::changes::{Audience, SUBSCRIBED, Subscription};
use super::channel::{Channel, Voice, Wanted};
use super::database::QueryError;
use super::outbox::Outbox;
use super::policy::{self, Rights};
use super::replay::{self, Stored};
use super::shared::Shared;
use super::token::Verified;
use super::topic::{ChannelId, Member, TopicKey};

/// The end of a token is looked at this often at least, in case the clock was set or the machine slept.
const EXPIRY_CHECK: Duration = Duration::from_mins(5);

/// How long a join with `wait` waits for its subscription when it does not say, and at most.
const WAIT_DEFAULT: Duration = Duration::from_secs(15);
const WAIT_MAX: Duration = Duration::from_secs(20);

/// A join that was read from the wire.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) join: Join,
    /// Topic without prefix.
    pub(crate) name: Arc<str>,
    /// The token of the channel, or that of the socket, verified.
    pub(crate) verified: Verified,
    pub(crate) token: Option<Box<str>>,
    pub(crate) join_ref: Option<Box<str>>,
    pub(crate) reference: Option<Box<str>>,
}

/// A join whose questions are answered.
#[derive(Debug)]
pub(crate) struct Prepared {
    request: Request,
    rights: Rights,
    stored: Vec<Stored>,
    wanted: Option<Arc<Wanted>>,
    subscription: Option<Subscription>,
}

/// What is looked up again when a channel's token changes.
#[derive(Debug)]
pub(crate) struct Renewed {
    pub(crate) verified: Verified,
    pub(crate) rights: Rights,
    pub(crate) subscription: Option<Subscription>,
}

/// Asks the database what a join needs to know; the reason of the refusal otherwise.
pub(crate) async fn prepare(shared: Arc<Shared>, request: Request) -> Result<Prepared, String> {
    let options = &request.join.config.changes;
    let waits = options.wait && !request.join.config.bindings.is_empty();
    let limit = if waits {
        let asked = options
            .timeout_ms
            .map_or(WAIT_DEFAULT, Duration::from_millis);
        asked.min(WAIT_MAX)
    } else {
        shared.limits.join_timeout
    };
    tokio::time::timeout(limit, prepare_within(&shared, request))
        .await
        .unwrap_or_else(|_| Err(late(limit, waits)))
}

fn late(limit: Duration, waits: bool) -> String {
    if waits {
        let limit = limit.as_millis();
        return format!(
            "PostgresChangesSubscribeTimeout: Timed out after {limit}ms waiting for the postgres_changes subscription"
        );
    }
    QueryError::Timeout(limit).reason()
}

async fn prepare_within(shared: &Arc<Shared>, mut request: Request) -> Result<Prepared, String> {
    let rights = rights(
        shared,
        &request.verified,
        &request.name,
        request.join.config.private,
    )
    .await?;
    let stored = replayed(shared, &request, rights).await?;
    let bindings = std::mem::take(&mut request.join.config.bindings);
    let wanted = (!bindings.is_empty()).then(|| {
        Arc::new(Wanted {
            ids: binding_ids(&bindings),
            bindings,
            since: request.join.config.changes.since.take(),
        })
    });
    let subscription = subscribe(shared, &request.verified, wanted.as_ref(), true).await?;
    if request.join.config.changes.wait
        && let Some(Err(message)) = subscription
            .as_ref()
            .map(|subscription| &subscription.notice)
    {
        return Err(format!("RealtimeDisabledForConfiguration: {message}"));
    }
    Ok(Prepared {
        request,
        rights,
        stored,
        wanted,
        subscription,
    })
}

/// Asks the database what a new token changes; the message for the client otherwise.
pub(crate) async fn renew(
    shared: Arc<Shared>,
    verified: Verified,
    key: TopicKey,
    wanted: Option<Arc<Wanted>>,
) -> Result<Renewed, String> {
    let limit = shared.limits.join_timeout;
    let renew = async {
        let rights = rights(&shared, &verified, &key.name, key.private).await?;
        let subscription = subscribe(&shared, &verified, wanted.as_ref(), false).await?;
        Ok(Renewed {
            verified,
            rights,
            subscription,
        })
    };
    tokio::time::timeout(limit, renew)
        .await
        .unwrap_or_else(|_| Err(QueryError::Timeout(limit).reason()))
}

/// The reason of a join that failed on the database; the details go to the log.
fn failed(what: &str, error: &QueryError) -> String {
    tracing::warn!(what, %error, "the database refused a channel");
    error.reason()
}

async fn rights(
    shared: &Arc<Shared>,
    verified: &Verified,
    name: &str,
    private: bool,
) -> Result<Rights, String> {
    let identity = &verified.identity;
    let allowed = shared
        .roles
        .allows(&shared.database, &identity.role)
        .await
        .map_err(|error| failed("roles", &error))?;
    if !allowed {
        let refusal = super::token::Refusal::Role(identity.role.to_string());
        return Err(refusal.reason());
    }
    if !private {
        return Ok(Rights::ALL);
    }
    let probes = [shared.fresh_id(), shared.fresh_id()];
    let rights = Box::pin(policy::rights(&shared.database, identity, name, probes))
        .await
        .map_err(|error| failed("policies", &error))?;
    if !rights.reads.broadcast && !rights.reads.presence {
        return Err(unauthorized(name));
    }
    Ok(rights)
}

fn unauthorized(name: &str) -> String {
    format!("Unauthorized: You do not have permissions to read from this Channel topic: {name}")
}

async fn replayed(
    shared: &Arc<Shared>,
    request: &Request,
    rights: Rights,
) -> Result<Vec<Stored>, String> {
    let config = &request.join.config;
    let Some(replay) = config.broadcast.replay else {
        return Ok(Vec::new());
    };
    if !config.private {
        return Err("UnableToReplayMessages: Replay is not allowed for public channels".to_owned());
    }
    let Replay::Since { since, limit } = replay else {
        return Err("UnableToReplayMessages: Replay params are not valid".to_owned());
    };
    if !rights.reads.broadcast {
        return Err(unauthorized(&request.name));
    }
    replay::stored(&shared.database, &request.name, since, limit)
        .await
        .map_err(|error| {
            tracing::warn!(%error, "stored messages could not be read");
            "UnableToReplayMessages: Realtime was unable to replay messages".to_owned()
        })
}

async fn subscribe(
    shared: &Arc<Shared>,
    verified: &Verified,
    wanted: Option<&Arc<Wanted>>,
    is_first: bool,
) -> Result<Option<Subscription>, String> {
    let (Some(wanted), Some(changes)) = (wanted, &shared.changes) else {
        return Ok(None);
    };
    let since = wanted.since.as_deref().filter(|_| is_first);
    changes
        .prepare(&verified.identity, wanted, since)
        .await
        .map(Some)
        .map_err(|error| failed("subscription", &error))
}

impl Prepared {
    /// Whether the channel wants to be told when broadcasts from the database flow.
    pub(crate) fn wants_replication(&self) -> bool {
        self.request.join.config.broadcast.replication_ready
    }

    /// Makes the channel live.
    pub(crate) fn enter(self, shared: &Shared, outbox: &Arc<Outbox>, version: Version) -> Channel {
        let Request {
            join,
            name,
            verified,
            token,
            join_ref,
            reference,
        } = self.request;
        let config = &join.config;
        let id = ChannelId::next();
        let key = TopicKey {
            name: Arc::clone(&name),
            private: config.private,
        };
        let wire = rowcall_realtime::topic::wire(&name);
        let voice = Voice {
            outbox,
            version,
            join_ref: join_ref.as_deref(),
            topic: &wire,
        };
        let reply = reply(self.wanted.as_deref());
        let ids: HashSet<_> = self.stored.iter().map(|stored| stored.id).collect();
        let member = Member {
            outbox: Arc::clone(outbox),
            version,
            reads: self.rights.reads,
            replayed: (!ids.is_empty()).then_some(ids),
            from: self.rights.from,
        };
        let wants_changes = self.wanted.is_some();
        let subscription = self.subscription;
        let topic = shared.hub.join(&key, id, member, |presence_state| {
            let announce = |notice: Option<&Result<(), String>>| {
                voice.reply(reference.as_deref(), &reply);
                for stored in &self.stored {
                    outbox.push(stored.frame(version, &wire, join_ref.as_deref()));
                }
                if config.presence.enabled && self.rights.reads.presence {
                    voice.push(None, event::PRESENCE_STATE, presence_state);
                }
                if wants_changes {
                    notify(&voice, notice);
                }
            };
            match (subscription, &shared.changes) {
                (Some(subscription), Some(changes)) => {
                    let audience = Audience {
                        channel: id,
                        outbox: Arc::clone(outbox),
                        version,
                        topic: wire.as_str().into(),
                        join_ref: join_ref.clone(),
                    };
                    changes.enter(audience, subscription, |notice| announce(Some(notice)));
                }
                _ => announce(None),
            }
        });
        let presence_key = config.presence.key.as_deref().map_or_else(
            || shared.fresh_id().to_string().into_boxed_str(),
            Into::into,
        );
        Channel {
            id,
            join_ref,
            topic,
            echo: config.broadcast.echo,
            ack: config.broadcast.ack,
            rights: self.rights,
            presence_key,
            presence_calls: None,
            check_at: check_at(shared, verified.expires_at),
            expires_at: verified.expires_at,
            identity: verified.identity,
            token,
            refresh: 0,
            wanted: self.wanted,
        }
    }
}

/// Tells a channel how its subscription went; `None` when changes are not read here at all.
pub(crate) fn notify(voice: &Voice<'_>, notice: Option<&Result<(), String>>) {
    let not_read = Err("Unable to subscribe to changes: this server does not read them".to_owned());
    match notice.unwrap_or(&not_read) {
        Ok(()) => voice.system(Extension::PostgresChanges, true, SUBSCRIBED),
        Err(message) => voice.system(Extension::PostgresChanges, false, message),
    }
}

/// The payload of the reply: each binding as it was requested, with its id.
fn reply(wanted: Option<&Wanted>) -> String {
    let reply_binding = |(binding, &id): (&Binding, &u32)| binding.reply(id);
    let bindings: Vec<Value> = wanted.map_or_else(Vec::new, |wanted| {
        wanted
            .bindings
            .iter()
            .zip(&wanted.ids)
            .map(reply_binding)
            .collect()
    });
    let mut response = serde_json::Map::new();
    response.insert("postgres_changes".to_owned(), Value::Array(bindings));
    event::reply_ok(&Value::Object(response).to_string())
}

/// When to look at the end of a token next.
pub(crate) fn check_at(shared: &Shared, expires_at: i64) -> Instant {
    let left = expires_at.saturating_sub(shared.now().as_second());
    let left = Duration::from_secs(u64::try_from(left).unwrap_or_default());
    // A little late rather than a little early, which would look twice.
    Instant::now() + (left + Duration::from_millis(100)).min(EXPIRY_CHECK)
}
