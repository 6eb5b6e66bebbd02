//! The server's settings, by version.
//!
//! What must hold is passed on the command line, which beats both `postgresql.conf` and `ALTER
//! SYSTEM`. What a user may tune is written to `postgresql.conf` once, when the cluster is made.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use super::version::PgVersion;

/// `idle_replication_slot_timeout` is refused by older servers.
const IDLE_SLOT_TIMEOUT_SINCE: u16 = 18;

/// Whether data has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Every acknowledged commit is on disk.
    Durable,
    /// Scratch servers of tests: nothing is synced, and there is room for many connections.
    #[cfg(feature = "testing")]
    Scratch,
}

/// How a server listens and how careful it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub(crate) port: u16,
    pub(crate) socket_dir: &'a Path,
    /// Listen on `::1` too: only where the host has it, or the server would run half bound.
    pub(crate) ipv6: bool,
    pub(crate) durability: Durability,
}

impl Settings<'_> {
    /// The command line after the program's name.
    pub(crate) fn arguments(&self, data_dir: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "-D".into(),
            data_dir.into(),
            "-p".into(),
            self.port.to_string().into(),
            "-k".into(),
            self.socket_dir.into(),
        ];
        for (name, value) in self.held() {
            arguments.push("-c".into());
            arguments.push(format!("{name}={value}").into());
        }
        arguments
    }

    fn held(&self) -> Vec<(&'static str, &'static str)> {
        let mut held = vec![
            (
                "listen_addresses",
                if self.ipv6 {
                    "127.0.0.1,::1"
                } else {
                    "127.0.0.1"
                },
            ),
            // Realtime reads the WAL; changing this later would need a restart.
            ("wal_level", "logical"),
            ("password_encryption", "scram-sha-256"),
            // initdb copies the host's time zone.
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("log_destination", "stderr"),
            ("logging_collector", "off"),
            ("cluster_name", "rowcall"),
        ];
        match self.durability {
            Durability::Durable => held.extend([("fsync", "on"), ("full_page_writes", "on")]),
            #[cfg(feature = "testing")]
            Durability::Scratch => held.extend([
                ("fsync", "off"),
                ("full_page_writes", "off"),
                ("synchronous_commit", "off"),
                ("max_connections", "200"),
                ("max_replication_slots", "100"),
                ("max_wal_senders", "100"),
                // In the data directory, so that a killed server leaves nothing elsewhere.
                ("dynamic_shared_memory_type", "mmap"),
                // Mostly for `create database`, which waits for checkpoints.
                ("checkpoint_timeout", "1h"),
            ]),
        }
        held
    }
}

/// Appended to a new cluster's `postgresql.conf`.
pub(crate) fn conf_defaults(version: PgVersion) -> String {
    let mut lines = vec![
        // Realtime sends only flushed WAL, so an asynchronous commit would be seen late.
        ("synchronous_commit", "on"),
        ("wal_writer_delay", "10ms"),
        // A replication slot nobody reads must not fill the disk.
        ("max_slot_wal_keep_size", "1GB"),
        ("max_connections", "60"),
        ("max_wal_senders", "10"),
        ("max_replication_slots", "10"),
        ("shared_buffers", "128MB"),
        ("jit", "off"),
        // Containers often have 64 MB of shared memory, too little for parallel queries.
        ("max_parallel_workers_per_gather", "0"),
    ];
    if cfg!(target_os = "linux") {
        lines.push(("recovery_init_sync_method", "syncfs"));
    }
    if version.major >= IDLE_SLOT_TIMEOUT_SINCE {
        lines.push(("idle_replication_slot_timeout", "1d"));
    }
    let mut text =
        "\n# Defaults of rowcall; yours to change. What rowcall itself relies on is set \
                    on the command line.\n"
            .to_owned();
    for (name, value) in lines {
        writeln!(text, "{name} = '{value}'").expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_never_at_risk_in_production() {
        let settings = Settings {
            port: 54_322,
            socket_dir: Path::new("/run"),
            ipv6: true,
            durability: Durability::Durable,
        };
        let arguments = settings.arguments(Path::new("/data"));
        let arguments: Vec<_> = arguments.iter().filter_map(|a| a.to_str()).collect();
        for expected in [
            "fsync=on",
            "full_page_writes=on",
            "wal_level=logical",
            "listen_addresses=127.0.0.1,::1",
        ] {
            assert!(arguments.contains(&expected), "{arguments:?}");
        }
        assert_eq!(arguments[..6], ["-D", "/data", "-p", "54322", "-k", "/run"]);
    }

    #[test]
    fn older_servers_get_no_setting_they_refuse() {
        let of = |major| conf_defaults(PgVersion { major, minor: 0 });
        assert!(of(18).contains("idle_replication_slot_timeout = '1d'"));
        assert!(!of(17).contains("idle_replication_slot_timeout"));
        assert!(of(14).contains("synchronous_commit = 'on'"));
    }
}
