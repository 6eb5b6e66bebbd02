//! Who is present on one topic.

use std::collections::BTreeMap;

use rowcall_realtime::frame::{json_string, push_json_string};
use serde_json::{Map, Value};

use super::topic::ChannelId;

/// The presences of one topic. A channel has at most one; several channels may share a key.
#[derive(Debug, Default)]
pub(crate) struct Presences {
    by_key: BTreeMap<String, Vec<Presence>>,
    count: usize,
}

#[derive(Debug)]
struct Presence {
    channel: ChannelId,
    payload: Map<String, Value>,
    /// Unique reference the client tells presences apart by.
    phx_ref: String,
    /// What goes on the wire, `phx_ref` included.
    meta: String,
}

/// What came of a `track`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tracked {
    /// Nothing new: the payload is the same.
    Unchanged,
    /// Payload of the `presence_diff` to send.
    Changed(String),
    /// The topic holds as many presences as it may.
    Full,
}

impl Presences {
    /// Notes what `channel` tracks under `key`. A channel keeps its key for its life.
    pub(crate) fn track(
        &mut self,
        channel: ChannelId,
        key: &str,
        payload: Map<String, Value>,
        phx_ref: String,
        limit: usize,
    ) -> Tracked {
        let present = self.by_key.get_mut(key);
        if let Some(presence) =
            present.and_then(|all| all.iter_mut().find(|one| one.channel == channel))
        {
            if presence.payload == payload {
                return Tracked::Unchanged;
            }
            let left = std::mem::take(&mut presence.meta);
            presence.meta = meta(&payload, &phx_ref, Some(&presence.phx_ref));
            presence.phx_ref = phx_ref;
            presence.payload = payload;
            return Tracked::Changed(diff(Some((key, &presence.meta)), Some((key, &left))));
        }
        if self.count >= limit {
            return Tracked::Full;
        }
        let meta = meta(&payload, &phx_ref, None);
        let changed = diff(Some((key, &meta)), None);
        self.by_key
            .entry(key.to_owned())
            .or_default()
            .push(Presence {
                channel,
                payload,
                phx_ref,
                meta,
            });
        self.count += 1;
        Tracked::Changed(changed)
    }

    /// Forgets the presence of `channel`; the payload of the `presence_diff` to send, if there was one.
    pub(crate) fn untrack(&mut self, channel: ChannelId, key: &str) -> Option<String> {
        let all = self.by_key.get_mut(key)?;
        let index = all.iter().position(|one| one.channel == channel)?;
        let left = all.remove(index);
        if all.is_empty() {
            self.by_key.remove(key);
        }
        self.count -= 1;
        Some(diff(None, Some((key, &left.meta))))
    }

    /// Payload of `presence_state`.
    pub(crate) fn state(&self) -> String {
        let mut state = String::from("{");
        for (key, all) in &self.by_key {
            if state.len() > 1 {
                state.push(',');
            }
            push_json_string(&mut state, key);
            state.push_str(r#":{"metas":["#);
            for (index, presence) in all.iter().enumerate() {
                if index > 0 {
                    state.push(',');
                }
                state.push_str(&presence.meta);
            }
            state.push_str("]}");
        }
        state.push('}');
        state
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What is tracked, with our references in place of whatever the client may have put under those names.
fn meta(payload: &Map<String, Value>, phx_ref: &str, previous: Option<&str>) -> String {
    let mut meta = payload.clone();
    meta.shift_remove("phx_ref_prev");
    meta.insert("phx_ref".to_owned(), Value::from(phx_ref));
    if let Some(previous) = previous {
        meta.insert("phx_ref_prev".to_owned(), Value::from(previous));
    }
    Value::Object(meta).to_string()
}

fn diff(joined: Option<(&str, &str)>, left: Option<(&str, &str)>) -> String {
    let side = |side: Option<(&str, &str)>| match side {
        Some((key, meta)) => format!(r#"{{{}:{{"metas":[{meta}]}}}}"#, json_string(key)),
        None => "{}".to_owned(),
    };
    format!(r#"{{"joins":{},"leaves":{}}}"#, side(joined), side(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcall_realtime::presence::Board;
    use serde_json::json;

    fn payload(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn changed(tracked: Tracked) -> String {
        match tracked {
            Tracked::Changed(diff) => diff,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_receiver_follows_every_change() {
        let (one, two) = (ChannelId::for_test(1), ChannelId::for_test(2));
        let mut presences = Presences::default();
        let mut board = Board::new();
        board.apply_state(&presences.state()).unwrap();
        let track = |presences: &mut Presences, channel, value: Value, reference: &str| {
            presences.track(channel, "k\"", payload(&value), reference.to_owned(), 10)
        };
        for diff in [
            changed(track(&mut presences, one, json!({"a": 1}), "r1")),
            changed(track(
                &mut presences,
                two,
                json!({"a": 2, "phx_ref": "mine"}),
                "r2",
            )),
            changed(track(&mut presences, one, json!({"a": 3}), "r3")),
        ] {
            board.apply_diff(&diff).unwrap();
        }
        assert_eq!(
            track(&mut presences, one, json!({"a": 3}), "r4"),
            Tracked::Unchanged
        );
        let mut fresh = Board::new();
        fresh.apply_state(&presences.state()).unwrap();
        let mut followed: Vec<_> = board.present()["k\""]
            .iter()
            .map(|meta| &meta.phx_ref)
            .collect();
        followed.sort();
        assert_eq!(followed, ["r2", "r3"]);
        assert_eq!(fresh.present()["k\""].len(), 2);
        for channel in [one, two] {
            board
                .apply_diff(&presences.untrack(channel, "k\"").unwrap())
                .unwrap();
        }
        assert!(board.present().is_empty());
        assert!(presences.is_empty());
        assert_eq!(presences.untrack(one, "k\""), None);
        assert_eq!(presences.state(), "{}");
    }

    #[test]
    fn a_full_topic_refuses_new_presences_and_changes_old_ones() {
        let (one, two) = (ChannelId::for_test(1), ChannelId::for_test(2));
        let mut presences = Presences::default();
        changed(presences.track(one, "k", Map::new(), "r1".to_owned(), 1));
        assert_eq!(
            presences.track(two, "k", Map::new(), "r2".to_owned(), 1),
            Tracked::Full
        );
        changed(presences.track(one, "k", payload(&json!({"a": 1})), "r3".to_owned(), 1));
    }
}
