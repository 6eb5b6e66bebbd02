//! The environment variables of AIMQ, under which existing workers are configured.
//!
//! They set keys of `[worker]`, above the file and below `ROWCALL__…`, and name a database for `rowcall worker` and
//! `rowcall queue` when nothing else does.

use std::fmt::Write as _;

use toml::Value;

/// Which variable sets which key, and how it is written there.
const VARIABLES: &[(&str, &str, Unit)] = &[
    ("SUPABASE_URL", "worker.realtime.url", Unit::Text),
    ("SUPABASE_KEY", "worker.realtime.key", Unit::Text),
    (
        "SUPABASE_REALTIME_CHANNEL",
        "worker.realtime.channel",
        Unit::Text,
    ),
    (
        "SUPABASE_REALTIME_EVENT",
        "worker.realtime.event",
        Unit::Text,
    ),
    ("WORKER_NAME", "worker.name", Unit::Text),
    ("WORKER_IDLE_WAIT", "worker.idle_wait", Unit::Seconds),
    ("QUEUE_MAX_RETRIES", "worker.max_retries", Unit::Count),
    ("QUEUE_MAX_BACKOFF", "worker.max_backoff", Unit::Seconds),
];

#[derive(Clone, Copy)]
enum Unit {
    Text,
    /// A number of seconds, such as `10.0`.
    Seconds,
    Count,
}

impl Unit {
    fn read(self, text: &str) -> Value {
        match self {
            Self::Text => Value::String(text.to_owned()),
            Self::Seconds => match text.trim().parse::<f64>() {
                Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => {
                    Value::String(format!("{:.0}ms", seconds * 1_000.0))
                }
                // The deserializer says what is wrong with it.
                _ => Value::String(text.to_owned()),
            },
            Self::Count => text
                .trim()
                .parse()
                .map_or_else(|_| Value::String(text.to_owned()), Value::Integer),
        }
    }
}

/// The key and value that a variable sets; `None` for variables that are not AIMQ's, and for empty ones.
pub(super) fn setting(name: &str, text: &str) -> Option<(&'static str, Value)> {
    let (_, key, unit) = VARIABLES
        .iter()
        .find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
    (!text.is_empty()).then(|| (*key, unit.read(text)))
}

/// The database that AIMQ's variables name: `DATABASE_URL`, or else `DATABASE_HOST` and its companions.
pub(super) fn database<'a>(env: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let mut parts = [const { None::<&str> }; 6];
    let names = [
        "DATABASE_URL",
        "DATABASE_HOST",
        "DATABASE_PORT",
        "DATABASE_NAME",
        "DATABASE_USER",
        "DATABASE_PASSWORD",
    ];
    for (name, text) in env.filter(|(_, text)| !text.is_empty()) {
        if let Some(index) = names
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
        {
            parts[index] = Some(text);
        }
    }
    let [url, host, port, database, user, password] = parts;
    if let Some(url) = url {
        return Some(url.to_owned());
    }
    // The key=value form needs no percent-encoding, only its own quotes.
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut text = format!(
        "host={} port={} dbname={} user={}",
        quoted(host?),
        quoted(port.unwrap_or("5432")),
        quoted(database.unwrap_or("postgres")),
        quoted(user.unwrap_or("postgres")),
    );
    if let Some(password) = password {
        let _ = write!(text, " password={}", quoted(password));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a11_variables_of_aimq_are_read_as_aimq_writes_them() {
        assert_eq!(
            setting("WORKER_IDLE_WAIT", "10.0"),
            Some(("worker.idle_wait", Value::String("10000ms".into())))
        );
        assert_eq!(
            setting("queue_max_retries", "7"),
            Some(("worker.max_retries", Value::Integer(7)))
        );
        assert_eq!(setting("SUPABASE_KEY", ""), None);
        assert_eq!(setting("HOME", "/"), None);
    }

    #[test]
    fn a11_the_database_is_a_url_or_its_parts() {
        let of = |env: &[(&'static str, &'static str)]| database(env.iter().copied());
        assert_eq!(of(&[("DATABASE_PORT", "1")]), None);
        assert_eq!(
            of(&[("DATABASE_HOST", "h"), ("DATABASE_PASSWORD", "it's")]).as_deref(),
            Some("host='h' port='5432' dbname='postgres' user='postgres' password='it\\'s'")
        );
        assert_eq!(
            of(&[("DATABASE_HOST", "h"), ("DATABASE_URL", "postgres://u/d")]).as_deref(),
            Some("postgres://u/d")
        );
    }
}
