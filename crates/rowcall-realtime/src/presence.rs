//! Who is present on a channel, as a receiver sees it.
//!
//! `presence_state` carries everybody, `{key: {"metas": [{…, "phx_ref": s}]}}`; `presence_diff` carries who came and who
//! left. One key tracked from several sockets has several metas, told apart by `phx_ref`. Diffs that come before the first
//! state are kept and applied after it, as the official clients do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Diffs kept while the first state has not come yet; older ones are dropped, the state that follows makes up for them.
pub const MAX_PENDING_DIFFS: usize = 1_000;

/// One presence of a key: what was tracked, and the reference the server gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Unique reference of this presence.
    pub phx_ref: String,
    /// Reference of the presence this one replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phx_ref_prev: Option<String>,
    /// What was tracked.
    #[serde(flatten)]
    pub payload: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Metas {
    metas: Vec<Meta>,
}

/// Presences by key.
pub type Presences = BTreeMap<String, Vec<Meta>>;

/// Who came and who left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Presences that are new.
    pub joins: Presences,
    /// Presences that are gone.
    pub leaves: Presences,
}

impl Diff {
    /// Reads the payload of `presence_diff`.
    ///
    /// # Errors
    /// When the payload is of another shape.
    pub fn decode(payload: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            joins: BTreeMap<String, Metas>,
            #[serde(default)]
            leaves: BTreeMap<String, Metas>,
        }
        let wire: Wire = serde_json::from_str(payload)?;
        Ok(Self {
            joins: presences(wire.joins),
            leaves: presences(wire.leaves),
        })
    }

    /// Whether nobody came and nobody left.
    pub fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty()
    }
}

fn presences(wire: BTreeMap<String, Metas>) -> Presences {
    wire.into_iter()
        .map(|(key, Metas { metas })| (key, metas))
        .collect()
}

/// The presences of one channel, kept up to date.
#[derive(Debug, Clone, Default)]
pub struct Board {
    present: Presences,
    has_state: bool,
    pending: Vec<Diff>,
}

impl Board {
    /// An empty board that waits for its first state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everybody who is present.
    pub fn present(&self) -> &Presences {
        &self.present
    }

    /// Forgets everything, for a rejoin.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes the payload of `presence_state` and returns what changed by it.
    ///
    /// # Errors
    /// When the payload is of another shape; the board is then as it was.
    pub fn apply_state(&mut self, payload: &str) -> Result<Diff, serde_json::Error> {
        let wire: BTreeMap<String, Metas> = serde_json::from_str(payload)?;
        let mut next = presences(wire);
        for diff in std::mem::take(&mut self.pending) {
            merge(&mut next, &diff);
        }
        let changed = Diff {
            joins: without(&next, &self.present),
            leaves: without(&self.present, &next),
        };
        self.present = next;
        self.has_state = true;
        Ok(changed)
    }

    /// Takes the payload of `presence_diff` and returns it; it is empty when the first state is still to come.
    ///
    /// # Errors
    /// When the payload is of another shape; the board is then as it was.
    pub fn apply_diff(&mut self, payload: &str) -> Result<Diff, serde_json::Error> {
        let diff = Diff::decode(payload)?;
        if self.has_state {
            merge(&mut self.present, &diff);
            return Ok(diff);
        }
        if self.pending.len() == MAX_PENDING_DIFFS {
            self.pending.remove(0);
        }
        self.pending.push(diff);
        Ok(Diff::default())
    }
}

/// Applies a diff: joins first, then leaves, each by reference, so that a re-track (the old meta under `leaves`, the new one
/// under `joins`) never makes the key vanish in between.
fn merge(present: &mut Presences, diff: &Diff) {
    for (key, joined) in &diff.joins {
        let metas = present.entry(key.clone()).or_default();
        metas.retain(|meta| joined.iter().all(|new| new.phx_ref != meta.phx_ref));
        metas.extend(joined.iter().cloned());
    }
    for (key, left) in &diff.leaves {
        let Some(metas) = present.get_mut(key) else {
            continue;
        };
        metas.retain(|meta| left.iter().all(|gone| gone.phx_ref != meta.phx_ref));
        if metas.is_empty() {
            present.remove(key);
        }
    }
}

/// The presences of `all` whose references are not among `known`.
fn without(all: &Presences, known: &Presences) -> Presences {
    let mut rest = Presences::new();
    for (key, metas) in all {
        let others = known.get(key).map_or(&[][..], Vec::as_slice);
        let new: Vec<Meta> = metas
            .iter()
            .filter(|meta| others.iter().all(|other| other.phx_ref != meta.phx_ref))
            .cloned()
            .collect();
        if !new.is_empty() {
            rest.insert(key.clone(), new);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(board: &Board, key: &str) -> Vec<String> {
        let metas = board.present().get(key).cloned().unwrap_or_default();
        metas.into_iter().map(|meta| meta.phx_ref).collect()
    }

    #[test]
    fn a_retrack_replaces_one_meta_of_the_key() {
        let mut board = Board::new();
        let state = r#"{"w":{"metas":[{"a":1,"phx_ref":"1"},{"a":2,"phx_ref":"2"}]}}"#;
        board.apply_state(state).unwrap();
        let diff = r#"{"joins":{"w":{"metas":[{"a":3,"phx_ref":"3","phx_ref_prev":"1"}]}},"leaves":{"w":{"metas":[{"phx_ref":"1"}]}}}"#;
        board.apply_diff(diff).unwrap();
        assert_eq!(references(&board, "w"), ["2", "3"]);
        board
            .apply_diff(
                r#"{"joins":{},"leaves":{"w":{"metas":[{"phx_ref":"2"},{"phx_ref":"3"}]}}}"#,
            )
            .unwrap();
        assert!(board.present().is_empty());
    }

    #[test]
    fn diffs_wait_for_the_first_state() {
        let mut board = Board::new();
        let diff = r#"{"joins":{"b":{"metas":[{"phx_ref":"2"}]}},"leaves":{}}"#;
        assert!(board.apply_diff(diff).unwrap().is_empty());
        let changed = board
            .apply_state(r#"{"a":{"metas":[{"phx_ref":"1"}]}}"#)
            .unwrap();
        assert_eq!(changed.joins.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(references(&board, "b"), ["2"]);
    }

    #[test]
    fn a_second_state_tells_only_what_changed() {
        let mut board = Board::new();
        board
            .apply_state(r#"{"a":{"metas":[{"phx_ref":"1"}]},"b":{"metas":[{"phx_ref":"2"}]}}"#)
            .unwrap();
        let changed = board
            .apply_state(r#"{"a":{"metas":[{"phx_ref":"1"}]},"c":{"metas":[{"phx_ref":"3"}]}}"#)
            .unwrap();
        assert_eq!(changed.joins.keys().collect::<Vec<_>>(), ["c"]);
        assert_eq!(changed.leaves.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_broken_payload_changes_nothing() {
        let mut board = Board::new();
        board
            .apply_state(r#"{"a":{"metas":[{"phx_ref":"1"}]}}"#)
            .unwrap();
        assert!(board.apply_state(r#"{"a":{"metas":[{}]}}"#).is_err());
        assert!(board.apply_diff("7").is_err());
        assert_eq!(references(&board, "a"), ["1"]);
    }
}
