//! The pages of the error codes: `docs/errors/`, embedded, so that `rowcall explain` needs no files.

/// What an error code means and what to do about it.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The code, as `error[…]` prints it.
    pub code: &'static str,
    /// Its page, in Markdown: a heading `# code: title`, what happened, why, what to do.
    pub text: &'static str,
}

impl Page {
    /// What happened, in a few words.
    pub fn title(&self) -> &'static str {
        let heading = self.text.lines().next().unwrap_or_default();
        heading.split_once(": ").map_or(heading, |(_, title)| title)
    }
}

/// The page of a code.
pub fn find(code: &str) -> Option<&'static Page> {
    ALL.iter().find(|page| page.code == code)
}

macro_rules! pages {
    ($($code:literal),* $(,)?) => {
        &[$(Page {
            code: $code,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors/", $code, ".md")),
        }),*]
    };
}

/// All pages, in the order of their codes.
pub const ALL: &[Page] = pages![
    "account-denied",
    "account-project",
    "account-token",
    "agent-command",
    "agent-data",
    "agent-not-executable",
    "agent-not-found",
    "agent-spawn",
    "agent-working-dir",
    "api-port",
    "app-manifest",
    "bug",
    "cluster-crashed",
    "cluster-disk-full",
    "cluster-foreign",
    "cluster-initdb",
    "cluster-io",
    "cluster-locked",
    "cluster-no-server",
    "cluster-not-ready",
    "cluster-not-traversable",
    "cluster-orphan",
    "cluster-password",
    "cluster-pid-file",
    "cluster-port",
    "cluster-provider-mismatch",
    "cluster-run",
    "cluster-server-gone",
    "cluster-socket-path",
    "cluster-sql",
    "cluster-start",
    "cluster-state",
    "cluster-wrong-major",
    "config-file",
    "config-no-home",
    "config-value",
    "db-busy",
    "db-checksum",
    "db-migration",
    "db-newer",
    "db-outdated",
    "db-query",
    "db-refused",
    "db-unavailable",
    "db-url",
    "engine-slow",
    "engine-stopped",
    "failure",
    "filter",
    "key-invalid",
    "key-taken",
    "login-answer",
    "login-code",
    "login-needed",
    "management-answer",
    "management-unreachable",
    "not-found",
    "policy-file",
    "problems",
    "project-sql",
    "queue-missing",
    "queue-name",
    "queue-pgmq",
    "queue-project",
    "secret-file",
    "secret-keyring",
    "setup-locked",
    "setup-no-events",
    "setup-no-key",
    "setup-no-table",
    "setup-not-a-table",
    "setup-reserved",
    "setup-rights",
    "setup-unknown-column",
    "stack-bootstrap",
    "stack-keys",
    "stack-port",
    "stack-replication",
    "stack-schema",
    "stack-wal-level",
    "store-access",
    "store-corrupt",
    "store-foreign",
    "store-full",
    "store-locked",
    "store-newer",
    "store-sqlite",
    "table-name",
    "usage",
];
