//! What a channel is asked to be.

use serde_json::{Map, Value, json};

use crate::{join::ChangeEvent, topic};

/// Which changes a channel wants: one binding of `postgres_changes`.
///
/// ```
/// use rowcall_realtime::{channel::ChangeFilter, join::ChangeEvent};
///
/// let new_tickets = ChangeFilter::table("public", "tickets")
///     .event(ChangeEvent::Insert)
///     .filter("status=eq.pending");
/// assert_eq!(new_tickets.to_json()["table"], "tickets");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeFilter {
    event: ChangeEvent,
    schema: String,
    table: Option<String>,
    filter: Option<String>,
    select: Vec<String>,
}

impl ChangeFilter {
    /// All changes of one table.
    pub fn table(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            event: ChangeEvent::All,
            schema: schema.into(),
            table: Some(table.into()),
            filter: None,
            select: Vec::new(),
        }
    }

    /// All changes of every published table of a schema.
    pub fn schema(schema: impl Into<String>) -> Self {
        Self {
            table: None,
            ..Self::table(schema, "")
        }
    }

    /// Only changes of this kind.
    #[must_use]
    pub fn event(mut self, event: ChangeEvent) -> Self {
        self.event = event;
        self
    }

    /// Only rows that match, in PostgREST's syntax: `column=op.value`. The server evaluates it; see the limits in the module
    /// about joins.
    #[must_use]
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.filter = Some(filter.into());
        self
    }

    /// Only these columns, and the primary key. Servers that do not know the option send all columns.
    #[must_use]
    pub fn select<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.select = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The object as it goes into `phx_join`.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
        put("event", self.event.as_str().into());
        put("schema", self.schema.as_str().into());
        if let Some(table) = &self.table {
            put("table", table.as_str().into());
        }
        if let Some(filter) = &self.filter {
            put("filter", filter.as_str().into());
        }
        if !self.select.is_empty() {
            put("select", self.select.clone().into());
        }
        Value::Object(object)
    }

    /// Whether the server's echo of this binding is one: `event`, `schema`, `table` and `filter` as they were sent, null and
    /// missing being equal.
    pub(super) fn is_echoed_by(&self, echo: &Value) -> bool {
        let same = |key: &str, sent: Option<&str>| {
            echo.get(key).and_then(Value::as_str) == sent
                && echo
                    .get(key)
                    .is_none_or(|value| value.is_null() || value.is_string())
        };
        same("event", Some(self.event.as_str()))
            && same("schema", Some(&self.schema))
            && same("table", self.table.as_deref())
            && same("filter", self.filter.as_deref())
    }

    /// Whether a change of `kind` belongs to this binding.
    pub(super) fn covers(&self, kind: ChangeEvent) -> bool {
        self.event.covers(kind)
    }
}

/// What a channel is asked to be: its topic and what it listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSpec {
    name: String,
    pub(super) private: bool,
    pub(super) ack: bool,
    pub(super) echo: bool,
    pub(super) presence: Option<String>,
    pub(super) changes: Vec<ChangeFilter>,
}

impl ChannelSpec {
    /// A public channel for broadcasts; `name` is the topic without `realtime:`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            private: false,
            ack: false,
            echo: false,
            presence: None,
            changes: Vec::new(),
        }
    }

    /// Lets the policies on `realtime.messages` decide who may use the channel. A public and a private channel of one name are
    /// two topics that do not hear each other; what `realtime.send()` sends is private unless it says otherwise.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Has every broadcast of ours answered, so that sending can fail with a reason.
    #[must_use]
    pub fn acknowledged(mut self) -> Self {
        self.ack = true;
        self
    }

    /// Delivers our own broadcasts to us, too.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Takes part in presence. Under `key` what this channel tracks appears; the server makes one when it is empty.
    #[must_use]
    pub fn presence(mut self, key: impl Into<String>) -> Self {
        self.presence = Some(key.into());
        self
    }

    /// Listens to changes of rows. Several filters are independent of each other.
    #[must_use]
    pub fn changes(mut self, filter: ChangeFilter) -> Self {
        self.changes.push(filter);
        self
    }

    /// The topic without `realtime:`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic on the wire.
    pub fn topic(&self) -> String {
        topic::wire(&self.name)
    }

    /// The payload of `phx_join` as JSON text. `since` is the position of the last change seen, which rowcall's own server
    /// takes up and others ignore.
    pub(super) fn join_payload(&self, token: Option<&str>, since: Option<&str>) -> String {
        let changes: Vec<Value> = self.changes.iter().map(ChangeFilter::to_json).collect();
        let mut config = json!({
            "broadcast": {"ack": self.ack, "self": self.echo},
            "presence": {
                "key": self.presence.as_deref().unwrap_or_default(),
                "enabled": self.presence.is_some(),
            },
            "postgres_changes": changes,
            "private": self.private,
        });
        if let Some(since) = since {
            config["postgres_changes_options"] = json!({"since": since});
        }
        let mut payload = json!({"config": config});
        if let Some(token) = token {
            payload["access_token"] = token.into();
        }
        payload.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::Join;

    #[test]
    fn a_join_is_read_back_by_the_server_side() {
        let spec = ChannelSpec::new("jobs")
            .private()
            .acknowledged()
            .presence("worker-1")
            .changes(ChangeFilter::table("public", "tickets").filter("status=eq.a"))
            .changes(ChangeFilter::schema("shop").event(ChangeEvent::Delete));
        let join = Join::read(&spec.join_payload(Some("jwt"), Some("0/16B3748"))).unwrap();
        assert_eq!(join.access_token.as_deref(), Some("jwt"));
        assert!(join.config.private && join.config.broadcast.ack && !join.config.broadcast.echo);
        assert_eq!(join.config.presence.key.as_deref(), Some("worker-1"));
        assert_eq!(join.config.changes.since.as_deref(), Some("0/16B3748"));
        let [tickets, shop] = &join.config.bindings[..] else {
            panic!("two bindings expected");
        };
        assert_eq!(tickets.filter.as_deref(), Some("status=eq.a"));
        assert_eq!(shop.table, None);
        for (sent, read) in spec.changes.iter().zip(&join.config.bindings) {
            assert!(sent.is_echoed_by(&read.reply(read.id())));
        }
    }

    #[test]
    fn an_echo_with_another_filter_is_none() {
        let sent = ChangeFilter::table("public", "tickets").filter("a=eq.1");
        let echo = json!({"event": "*", "schema": "public", "table": "tickets", "filter": null});
        assert!(!sent.is_echoed_by(&echo));
        let odd = json!({"event": "*", "schema": "public", "table": 7});
        assert!(!ChangeFilter::schema("public").is_echoed_by(&odd));
    }
}
