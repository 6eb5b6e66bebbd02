//! The same set-up as a migration file, for projects whose database changes only by migrations (`supabase migration`).
//!
//! A file is idempotent and runs on pgmq 1.4.4 and later; it creates the extension where the server offers it.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    install::{PUBLIC, WAKE},
    name::QueueName,
    realtime::{Broadcast, Mode},
};

/// A migration: its file name and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// `<yyyymmddhhmmss>_<what>.sql`, as the Supabase CLI orders them.
    pub file_name: String,
    /// SQL.
    pub sql: String,
}

impl Migration {
    /// pgmq and the helpers: what `install` does.
    pub fn setup(now: Timestamp) -> Self {
        let mut sql = String::from(
            "-- rowcall: pgmq and the wake-ups of its queues. Idempotent.\n\
             do $$ begin\n  \
               if to_regprocedure('pgmq.send(text,jsonb,integer)') is null then\n    \
                 create extension if not exists pgmq;\n  \
               end if;\nend $$;\n\n",
        );
        for (name, part) in WAKE.iter().chain(&PUBLIC) {
            let _ = writeln!(sql, "-- {name}\n{}", part.trim_end());
            sql.push('\n');
        }
        Self::named(now, "setup_rowcall_queues", sql)
    }

    /// One queue, with row level security on, direct wake-ups, and broadcasts if asked for. Needs [`Migration::setup`] before it.
    pub fn create_queue(queue: &QueueName, broadcast: Option<&Broadcast>, now: Timestamp) -> Self {
        let (name, table, archive) = (
            literal(queue.as_str()),
            queue.queue_sql(),
            queue.archive_sql(),
        );
        let mut sql = format!(
            "-- The queue {queue}. Through the Data API only service_role reaches it until there are policies.\n\
             select pgmq.create({name});\n\
             alter table {table} enable row level security;\n\
             alter table {archive} enable row level security;\n\
             select rowcall_queue.enable_wake({name});\n"
        );
        if let Some(broadcast) = broadcast {
            sql.push_str(&enable(queue, broadcast));
        }
        Self::named(now, &format!("create_queue_{}", plain(queue)), sql)
    }

    /// Broadcasts of a queue, or none.
    pub fn broadcast(queue: &QueueName, broadcast: Option<&Broadcast>, now: Timestamp) -> Self {
        let name = plain(queue);
        if let Some(broadcast) = broadcast {
            return Self::named(
                now,
                &format!("enable_realtime_{name}"),
                enable(queue, broadcast),
            );
        }
        let sql = format!(
            "select rowcall_queue.disable_broadcast({});\n",
            literal(queue.as_str())
        );
        Self::named(now, &format!("disable_realtime_{name}"), sql)
    }

    fn named(now: Timestamp, what: &str, sql: String) -> Self {
        let stamp = now.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S");
        Self {
            file_name: format!("{stamp}_{what}.sql"),
            sql,
        }
    }
}

fn enable(queue: &QueueName, broadcast: &Broadcast) -> String {
    let gate = match broadcast.mode {
        Mode::Every => 0,
        Mode::Gated(millis) => millis,
    };
    format!(
        "select rowcall_queue.enable_broadcast({}, {}, {}, private => {}, gate_ms => {gate}, per_row => {});\n",
        literal(queue.as_str()),
        literal(&broadcast.channel),
        literal(&broadcast.event),
        broadcast.private,
        broadcast.per_row
    )
}

/// A string for SQL text; a migration has no parameters. Backslashes need the `E` form to mean themselves everywhere.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

fn plain(queue: &QueueName) -> String {
    queue
        .as_str()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a12_files_are_named_as_the_supabase_cli_orders_them() {
        let now: Timestamp = "2026-11-21T09:08:07Z".parse().unwrap();
        let queue = QueueName::new("Incoming-Messages").unwrap();
        let migration = Migration::create_queue(&queue, Some(&Broadcast::default()), now);
        assert_eq!(
            migration.file_name,
            "20261121090807_create_queue_incoming_messages.sql"
        );
        insta::assert_snapshot!(migration.sql, @r#"
        -- The queue Incoming-Messages. Through the Data API only service_role reaches it until there are policies.
        select pgmq.create('Incoming-Messages');
        alter table pgmq."q_incoming-messages" enable row level security;
        alter table pgmq."a_incoming-messages" enable row level security;
        select rowcall_queue.enable_wake('Incoming-Messages');
        select rowcall_queue.enable_broadcast('Incoming-Messages', 'aimq:jobs', 'job_enqueued', private => false, gate_ms => 0, per_row => false);
        "#);
    }

    #[test]
    fn c8_names_are_quoted() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
