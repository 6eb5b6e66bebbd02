//! Queues of a Supabase project, reached with its URL and a key: the functions of schema `pgmq_public` over REST.
//!
//! With our functions (`pgmq_public.rowcall_*`, installed by `rowcall queue create` and its migration file) a worker does there
//! what it does on a database. With Supabase's own six, or AIMQ's, it does what those allow: leases end with the visibility
//! time-out and cannot be renewed, a dead letter is sent before its message ends (twice when something breaks in between), and
//! messages are ended one by one.

mod error;
mod ours;
mod stock;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use rowcall_core::{Clock, Payload};
use secrecy::SecretString;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    error::QueueError,
    layout::{Layout, Tables},
    name::QueueName,
    realtime::Broadcast,
    spec::QueueSpec,
    store::{Message, seconds},
};
use crate::supabase::{
    error::RestError,
    http::{Call, Rest, Transport},
    project_url,
    session::Session,
};

/// The schema of queues in the Data API.
const SCHEMA: &str = "pgmq_public";

/// Queues of a Supabase project. Clones share connections.
#[derive(Clone)]
pub struct QueueProject(Arc<Inner>);

struct Inner {
    rest: Rest,
    ours: AtomicBool,
}

impl fmt::Debug for QueueProject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueProject")
            .field("ours", &self.has_ours())
            .finish_non_exhaustive()
    }
}

/// A queue as a project lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedQueue {
    /// Its name.
    pub queue_name: String,
    /// Whether sends are broadcast.
    pub realtime_enabled: bool,
    /// Messages in it.
    pub queue_length: i64,
    /// Seconds since the newest was sent.
    pub newest_msg_age_sec: Option<i32>,
    /// Seconds since the oldest was sent.
    pub oldest_msg_age_sec: Option<i32>,
    /// Messages ever sent.
    pub total_messages: i64,
}

impl QueueProject {
    /// The queues of the project at `url`. Nothing is sent yet. `within` bounds each request.
    ///
    /// # Errors
    ///
    /// When the URL is of no use.
    pub fn new(
        url: &str,
        key: SecretString,
        within: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, QueueError> {
        let base = project_url(url).map_err(|error| QueueError::Project {
            class: error.class,
            message: error.message,
        })?;
        let transport = Transport::new(base, key, within)
            .map_err(|error| error::explain(error, "setting up the HTTP client", None))?;
        let session = Session::new(transport.clone(), clock, None, None);
        Ok(Self::over(Rest::new(transport, session)))
    }

    pub(crate) fn over(rest: Rest) -> Self {
        Self(Arc::new(Inner {
            rest,
            ours: AtomicBool::new(false),
        }))
    }

    /// Whether the project has our functions, as far as [`QueueProject::look`] found.
    pub fn has_ours(&self) -> bool {
        self.0.ours.load(Ordering::Relaxed)
    }

    /// Looks whether the project has our functions.
    ///
    /// # Errors
    ///
    /// When the project is out of reach, refuses the key, or does not expose the schema.
    pub async fn look(&self) -> Result<bool, QueueError> {
        let call = call("rowcall_work", &json!({ "steps": [] }));
        let ours = match self.0.rest.fetch::<Vec<Value>>(&call).await {
            Ok(_) => true,
            // Missing, or not granted: then those that are must do.
            Err(error) if error.is_missing_function() || error.is_denied() => false,
            Err(error) => return Err(error::explain(error, "looking for the queues", None)),
        };
        self.0.ours.store(ours, Ordering::Relaxed);
        Ok(ours)
    }

    /// About what time it is there, once it has answered.
    fn now(&self) -> Option<Timestamp> {
        self.0.rest.clock().now()
    }

    /// Looks which of the queues are there.
    pub(super) async fn layout(&self, specs: &[QueueSpec]) -> Result<Layout, QueueError> {
        if self.look().await? {
            return self.layout_by_ours(specs).await;
        }
        let mut tables = Vec::with_capacity(specs.len());
        for spec in specs {
            if spec.order.function().is_some() {
                return Err(QueueError::NeedsDatabase {
                    doing: "reading a queue in groups without rowcall's functions in the project",
                });
            }
            let queue = self.exists(&spec.name).await?;
            let dead_letters = match &spec.dead_letters {
                Some(letters) => self.exists(letters).await?,
                None => false,
            };
            tables.push(Tables {
                queue,
                archive: queue,
                dead_letters,
                ..Tables::default()
            });
        }
        Ok(Layout { tables })
    }

    /// Reads no message of a queue, which tells whether it could.
    async fn exists(&self, queue: &QueueName) -> Result<bool, QueueError> {
        match self.read(queue, Duration::ZERO, 0).await {
            Ok(_) => Ok(true),
            Err(QueueError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a message.
    pub async fn send(
        &self,
        queue: &QueueName,
        message: &Payload,
        delay: Duration,
    ) -> Result<i64, QueueError> {
        let body =
            json!({ "queue_name": queue, "message": message, "sleep_seconds": seconds(delay) });
        let ids: Vec<i64> = self.call("send", "sending a message", queue, &body).await?;
        Ok(ids.first().copied().unwrap_or(0))
    }

    /// Sends messages in order.
    pub async fn send_batch(
        &self,
        queue: &QueueName,
        messages: &[Payload],
        delay: Duration,
    ) -> Result<Vec<i64>, QueueError> {
        let body =
            json!({ "queue_name": queue, "messages": messages, "sleep_seconds": seconds(delay) });
        self.call("send_batch", "sending messages", queue, &body)
            .await
    }

    /// Reads up to `limit` messages and hides them for `visibility`.
    pub async fn read(
        &self,
        queue: &QueueName,
        visibility: Duration,
        limit: u32,
    ) -> Result<Vec<Message>, QueueError> {
        let body = json!({ "queue_name": queue, "sleep_seconds": seconds(visibility), "n": limit });
        self.call("read", "reading a queue", queue, &body).await
    }

    /// Shows up to `limit` messages and changes nothing. Needs our functions.
    pub async fn peek(&self, queue: &QueueName, limit: u32) -> Result<Vec<Message>, QueueError> {
        let body = json!({ "queue_name": queue, "n": limit });
        let answer = self.fetch(&call("rowcall_peek", &body)).await;
        answer.map_err(|error| {
            let doing = "looking into a queue without reading it";
            if error.is_missing_function() {
                return QueueError::NeedsDatabase { doing };
            }
            error::explain(error, doing, Some(queue))
        })
    }

    /// Takes the next message out of the queue.
    pub async fn pop(&self, queue: &QueueName) -> Result<Option<Message>, QueueError> {
        let body = json!({ "queue_name": queue });
        let popped: Vec<Message> = self.call("pop", "popping a message", queue, &body).await?;
        Ok(popped.into_iter().next())
    }

    /// Moves a message to the archive; `false` when it was not in the queue.
    pub async fn archive(&self, queue: &QueueName, msg_id: i64) -> Result<bool, QueueError> {
        let body = json!({ "queue_name": queue, "message_id": msg_id });
        self.call("archive", "archiving a message", queue, &body)
            .await
    }

    /// Deletes a message; `false` when it was not in the queue.
    pub async fn delete(&self, queue: &QueueName, msg_id: i64) -> Result<bool, QueueError> {
        let body = json!({ "queue_name": queue, "message_id": msg_id });
        self.call("delete", "deleting a message", queue, &body)
            .await
    }

    /// Makes a queue, with wake-ups on a channel or without; one that is there stays. Needs AIMQ's functions or ours.
    pub async fn create(
        &self,
        queue: &QueueName,
        broadcast: Option<&Broadcast>,
    ) -> Result<(), QueueError> {
        let mut body = json!({ "queue_name": queue, "with_realtime": broadcast.is_some() });
        if let Some(broadcast) = broadcast {
            body["channel_name"] = broadcast.channel.as_str().into();
            body["event_name"] = broadcast.event.as_str().into();
        }
        self.control("create_queue", "creating a queue", queue, &body)
            .await
    }

    /// Broadcasts sends on a channel, or stops that. Needs AIMQ's functions or ours.
    pub async fn set_broadcast(
        &self,
        queue: &QueueName,
        broadcast: Option<&Broadcast>,
    ) -> Result<(), QueueError> {
        let doing = "switching wake-ups";
        match broadcast {
            Some(one) => {
                let body = json!({ "queue_name": queue, "channel_name": one.channel, "event_name": one.event });
                self.control("enable_queue_realtime", doing, queue, &body)
                    .await
            }
            None => {
                let body = json!({ "queue_name": queue });
                self.control("disable_queue_realtime", doing, queue, &body)
                    .await
            }
        }
    }

    /// Every queue. Needs AIMQ's functions or ours.
    pub async fn list(&self) -> Result<Vec<ListedQueue>, QueueError> {
        #[derive(Deserialize)]
        struct Listed {
            #[serde(default)]
            queues: Vec<ListedQueue>,
            error: Option<String>,
        }
        let answer = self.0.rest.fetch(&call("list_queues", &json!({}))).await;
        let listed: Listed =
            answer.map_err(|error| error::explain(error, "listing the queues", None))?;
        match listed.error {
            Some(reason) => Err(error::said("listing the queues", &reason)),
            None => Ok(listed.queues),
        }
    }

    /// Calls a function of AIMQ's, which answers failures as a success.
    async fn control(
        &self,
        function: &str,
        doing: &'static str,
        queue: &QueueName,
        body: &Value,
    ) -> Result<(), QueueError> {
        let answer: Value = self.call(function, doing, queue, body).await?;
        if answer["success"] == true {
            return Ok(());
        }
        let reason = answer["error"].as_str().unwrap_or("it does not say why");
        Err(error::said(doing, reason))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        function: &str,
        doing: &'static str,
        queue: &QueueName,
        body: &Value,
    ) -> Result<T, QueueError> {
        let answer = self.0.rest.fetch(&call(function, body)).await;
        answer.map_err(|error| error::explain(error, doing, Some(queue)))
    }

    async fn fetch<T: DeserializeOwned>(&self, call: &Call) -> Result<T, RestError> {
        self.0.rest.fetch(call).await
    }
}

fn call(function: &str, body: &Value) -> Call {
    Call::rpc(function, body).schema(SCHEMA)
}
