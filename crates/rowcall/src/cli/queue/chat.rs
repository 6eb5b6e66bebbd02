//! `rowcall queue chat`: a message into one queue, its answer out of another.

use std::time::Duration;

use clap::Args;
use rowcall_backend::queue::{QueueError, QueueName, QueueStore, Wake};
use rowcall_core::{IdSource as _, Payload};
use rowcall_realtime::{
    channel::{ChannelSpec, Event},
    client::{Client, Config as RealtimeConfig, Subscription},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::user;
use crate::{
    config::{Config, Span},
    daemon::QueuePlace,
    exit::{Exit, UserError},
    output,
    system::RandomIds,
};

/// How often to look for the answer while nothing tells; as AIMQ does.
const POLL: Duration = Duration::from_millis(200);
/// The same while Realtime tells.
const POLL_CONNECTED: Duration = Duration::from_secs(2);
/// Messages looked at for the answer.
const LOOK: u32 = 1_000;
/// Messages read for it, where nothing looks without reading.
const READ: u32 = 100;
/// Where nothing looks without reading, other people's messages are hidden for so long.
const HIDDEN: Duration = Duration::from_secs(1);
/// How long the socket may take before polling begins.
const CONNECT: Duration = Duration::from_secs(5);
/// Members of an answer that may hold the id of its question, besides `message_id`, which may be its own.
const REPLIES: [&str; 3] = ["reply_to", "in_reply_to", "parent_id"];
/// Members of an answer that may hold its text.
const TEXT: [&str; 4] = ["body", "message", "content", "text"];

/// Send messages to a queue and print what comes back on another: one given here, or one per line of standard input
#[derive(Debug, Args)]
pub struct Chat {
    /// The message; without one, every line of standard input
    message: Option<String>,
    /// For this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// In this workspace
    #[arg(long, value_name = "ID")]
    workspace: Option<String>,
    /// In this channel of the workspace
    #[arg(long, value_name = "ID")]
    channel: Option<String>,
    /// In this thread; a new one when absent
    #[arg(long, value_name = "ID")]
    thread: Option<String>,
    /// Where messages go
    #[arg(long, value_name = "QUEUE", default_value = "incoming-messages")]
    to: QueueName,
    /// Where answers come from
    #[arg(long, value_name = "QUEUE", default_value = "outgoing-messages")]
    from: QueueName,
    /// How long to wait for each answer
    #[arg(long, value_name = "SPAN", default_value = "2m")]
    timeout: Span,
    /// Only poll for answers
    #[arg(long)]
    no_realtime: bool,
}

/// A conversation under way.
struct Talk {
    chat: Chat,
    store: QueueStore,
    thread: String,
    /// The channel of wake-ups, where there is one.
    channel: Option<(Subscription, String)>,
}

impl Chat {
    pub(super) async fn run(
        mut self,
        config: &Config,
        place: &QueuePlace,
        store: QueueStore,
    ) -> anyhow::Result<Exit> {
        let thread = self.thread.clone();
        let message = self.message.take();
        let mut talk = Talk {
            thread: thread.unwrap_or_else(|| RandomIds.uuid().to_string()),
            channel: self.listen(config, place).await,
            chat: self,
            store,
        };
        let Some(message) = message else {
            // Standard input blocks.
            let line = || tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
            while let Some(line) = line().await? {
                let line = line?;
                if !line.trim().is_empty() {
                    talk.say(line.trim()).await?;
                }
            }
            return Ok(Exit::Success);
        };
        talk.say(&message).await?;
        Ok(Exit::Success)
    }

    /// The workers' channel, which also tells of answers where their queue broadcasts.
    async fn listen(&self, config: &Config, place: &QueuePlace) -> Option<(Subscription, String)> {
        let realtime = &config.worker.realtime;
        let (url, key) = match place {
            QueuePlace::Project(_, address) => (&address.url, &address.own_key),
            QueuePlace::Database(_) => (&realtime.url, &realtime.key),
        };
        if self.no_realtime || url.is_empty() || key.is_empty() {
            return None;
        }
        let (client, driver) = Client::new(RealtimeConfig::new(url, key.clone()).ok()?);
        // Ends with this process.
        tokio::spawn(driver.run());
        let mut spec = ChannelSpec::new(&realtime.channel);
        if realtime.private {
            spec = spec.private();
        }
        let mut channel = client.join(spec).await.ok()?;
        match timeout(CONNECT, channel.next()).await {
            Ok(Some(Event::Up)) => Some((channel, realtime.event.clone())),
            _ => {
                tracing::info!("Realtime is not to be had: looking for answers every 200 ms");
                None
            }
        }
    }
}

impl Talk {
    async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let id = RandomIds.uuid().to_string();
        let chat = &self.chat;
        let message = json!({
            "message_id": id, "body": text, "thread_id": self.thread, "agent": chat.agent,
            "workspace_id": chat.workspace, "channel_id": chat.channel,
        });
        let message = Payload::from_value(&message).expect("plain data serialises");
        let sent = self.store.send(&chat.to, &message, Duration::ZERO).await;
        sent.map_err(user)?;
        let end = Instant::now() + chat.timeout.0;
        loop {
            if let Some(answer) = self.look(&id).await? {
                output::line(shown(&answer))?;
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(UserError::new(
                    Exit::Failure,
                    format!(
                        "no answer came on {} within {}",
                        self.chat.from, self.chat.timeout
                    ),
                )
                .help("see that a worker reads the message and sends an answer with its message_id (`rowcall queue list`)")
                .into());
            }
            self.wait(end).await;
        }
    }

    /// Looks for the answer and takes it out of the queue. What is not ours is left alone.
    async fn look(&self, id: &str) -> anyhow::Result<Option<Value>> {
        let queue = &self.chat.from;
        let messages = match self.store.peek(queue, LOOK).await {
            Err(QueueError::NeedsDatabase { .. }) => self.store.read(queue, HIDDEN, READ).await,
            messages => messages,
        };
        for message in messages.map_err(user)? {
            let value: Value = serde_json::from_str(message.message.get())?;
            if !answers(&value, id, &self.thread) {
                continue;
            }
            // Whoever takes it has it.
            let taken = self.store.archive(queue, message.msg_id).await;
            if taken.map_err(user)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Until something happens on the channel, or it is time to look.
    async fn wait(&mut self, end: Instant) {
        let Some((channel, event)) = &mut self.channel else {
            return tokio::time::sleep_until(end.min(Instant::now() + POLL)).await;
        };
        let until = end.min(Instant::now() + POLL_CONNECTED);
        let name = self.chat.from.as_str();
        let ours = |message: &rowcall_realtime::channel::Broadcast| {
            let wake = message.payload.read::<Wake>();
            message.event == *event
                && wake.is_ok_and(|wake| wake.names().any(|one| one.eq_ignore_ascii_case(name)))
        };
        loop {
            match tokio::time::timeout_at(until, channel.next()).await {
                Ok(Some(Event::Broadcast(message))) if !ours(&message) => {}
                Ok(Some(_)) | Err(_) => return,
                Ok(None) => break,
            }
        }
        self.channel = None;
    }
}

/// Whether a message answers a question.
fn answers(value: &Value, id: &str, thread: &str) -> bool {
    let is = |member: &str, text: &str| {
        [value, &value["metadata"]]
            .iter()
            .any(|object| object[member] == text)
    };
    let other = REPLIES
        .iter()
        .any(|member| value[member].is_string() || value["metadata"][member].is_string());
    let answered = REPLIES.iter().chain(&["message_id"]);
    answered.into_iter().any(|member| is(member, id)) || (!other && is("thread_id", thread))
}

/// What people read of an answer.
fn shown(value: &Value) -> String {
    let text = TEXT.iter().find_map(|member| value[member].as_str());
    match text.or_else(|| value.as_str()) {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a12_an_answer_is_known_by_its_question_or_its_thread() {
        for (value, ours) in [
            (json!({ "reply_to": "m1", "body": "yes" }), true),
            (
                json!({ "metadata": { "message_id": "m1" }, "message": "yes" }),
                true,
            ),
            (json!({ "thread_id": "t1", "body": "yes" }), true),
            (json!({ "thread_id": "t1", "message_id": "own" }), true),
            (json!({ "thread_id": "t1", "reply_to": "m2" }), false),
            (json!({ "thread_id": "t2" }), false),
            (json!("m1"), false),
            (json!(null), false),
        ] {
            assert_eq!(answers(&value, "m1", "t1"), ours, "{value}");
        }
        assert_eq!(shown(&json!({ "body": "yes" })), "yes");
        assert_eq!(shown(&json!({ "answer": 1 })), r#"{"answer":1}"#);
    }
}
