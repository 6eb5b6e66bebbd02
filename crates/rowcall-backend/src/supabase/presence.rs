//! Machines know each other from presence.

use jiff::Timestamp;
use rowcall_core::{AppId, MachineId};
use rowcall_realtime::presence::Presences;
use serde::{Deserialize, Serialize};

use super::SupabaseConfig;

/// The channel on which machines show themselves.
pub(super) const CHANNEL: &str = "rowcall-machines";
/// Stands between the names of several apps.
const BETWEEN_APPS: &str = ", ";
/// Machines kept of what presence tells.
const MAX_MACHINES: usize = 10_000;

/// How busy this machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Tasks that run now.
    pub running: u32,
    /// Tasks that may run at once; 0 when nobody said.
    pub capacity: u32,
}

impl Load {
    fn is_full(self) -> bool {
        self.capacity > 0 && self.running >= self.capacity
    }
}

/// A machine that is present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its id.
    pub machine_id: MachineId,
    /// Who runs it.
    #[serde(default)]
    pub user_email: Option<String>,
    /// The computer's name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The apps it runs.
    #[serde(default)]
    pub app_name: Option<String>,
    /// Since when it is present, by its own clock.
    #[serde(default)]
    pub online_at: Option<Timestamp>,
    /// `idle` or `busy`; other clients of the protocol do not say.
    #[serde(default)]
    pub status: Option<String>,
    /// Tasks that run there, where it says so.
    #[serde(default)]
    pub running: Option<u32>,
}

impl Machine {
    /// This machine as the others shall see it.
    pub(super) fn ours(
        config: &SupabaseConfig,
        apps: &[AppId],
        online_at: Timestamp,
        load: Load,
    ) -> Self {
        let apps: Vec<&str> = apps.iter().map(AppId::as_str).collect();
        Self {
            machine_id: config.identity.machine.clone(),
            user_email: config.identity.user_email.clone(),
            hostname: Some(config.identity.hostname.clone()),
            app_name: Some(apps.join(BETWEEN_APPS)),
            online_at: Some(online_at),
            status: Some(if load.is_full() { "busy" } else { "idle" }.to_owned()),
            running: Some(load.running),
        }
    }

    /// Whether it may run one of the apps: one that says nothing may run any.
    fn runs_one_of(&self, apps: &[AppId]) -> bool {
        let Some(names) = self.app_name.as_deref().filter(|names| !names.is_empty()) else {
            return true;
        };
        let mut names = names.split(BETWEEN_APPS);
        apps.is_empty() || names.any(|name| apps.iter().any(|app| app.as_str() == name))
    }

    fn is_busy(&self) -> bool {
        self.status.as_deref() == Some("busy")
    }
}

/// The machines that presence shows. What somebody else tracks on the channel is no machine.
pub(super) fn machines(present: &Presences) -> Vec<Machine> {
    let metas = present.values().filter_map(|metas| metas.last());
    let machines = metas.filter_map(|meta| {
        let payload = serde_json::Value::Object(meta.payload.clone());
        serde_json::from_value::<Machine>(payload).ok()
    });
    let mut machines: Vec<Machine> = machines.take(MAX_MACHINES).collect();
    machines.sort_by(|a, b| a.machine_id.cmp(&b.machine_id));
    machines.dedup_by(|a, b| a.machine_id == b.machine_id);
    machines
}

/// Those that run one of the apps and have a free slot; with a full one too when nobody has.
pub(super) fn who_may_claim(machines: &[Machine], apps: &[AppId]) -> Vec<MachineId> {
    let ids = |busy_too: bool| -> Vec<MachineId> {
        let fitting = machines
            .iter()
            .filter(|machine| machine.runs_one_of(apps) && (busy_too || !machine.is_busy()));
        fitting.map(|machine| machine.machine_id.clone()).collect()
    };
    let idle = ids(false);
    if idle.is_empty() { ids(true) } else { idle }
}

#[cfg(test)]
mod tests {
    use rowcall_realtime::presence::Board;

    use super::*;

    #[test]
    fn only_machines_count_and_each_once() {
        let mut board = Board::new();
        let state = r#"{
            "b": {"metas": [{"phx_ref": "1", "machine_id": "b", "status": "busy", "running": 3}]},
            "a": {"metas": [{"phx_ref": "2", "machine_id": "old"}, {"phx_ref": "3", "machine_id": "a",
                  "user_email": "john@example.com", "hostname": "Johns-MacBook-Pro", "app_name": "customer-support",
                  "online_at": "2024-01-15T10:30:00Z"}]},
            "c": {"metas": [{"phx_ref": "4", "machine_id": "a"}]},
            "x": {"metas": [{"phx_ref": "5", "cursor": [1, 2]}]},
            "y": {"metas": [{"phx_ref": "6", "machine_id": ""}]}
        }"#;
        board.apply_state(state).unwrap();
        let machines = machines(board.present());
        let ids: Vec<&str> = machines.iter().map(|one| one.machine_id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(machines[0].hostname.as_deref(), Some("Johns-MacBook-Pro"));
        let app = |name: &str| vec![AppId::new(name).unwrap()];
        let free = who_may_claim(&machines, &app("customer-support"));
        assert_eq!(
            free.iter().map(MachineId::as_str).collect::<Vec<_>>(),
            ["a"]
        );
        assert_eq!(who_may_claim(&machines[1..], &[]).len(), 1, "all are busy");
        let other = who_may_claim(&machines, &app("sales"));
        let other: Vec<&str> = other.iter().map(MachineId::as_str).collect();
        assert_eq!(other, ["b"], "a runs another app; b does not say");
    }
}
