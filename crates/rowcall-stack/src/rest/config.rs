//! How the REST server behaves: what the caller sets, and what `alter role authenticator set pgrst.…` sets over it.

use super::schema::Role;

/// How transactions end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxPolicy {
    /// Always commit.
    Commit,
    /// Commit, unless the request prefers a rollback.
    CommitAllowOverride,
    /// Always roll back.
    Rollback,
    /// Roll back, unless the request prefers a commit.
    RollbackAllowOverride,
}

impl TxPolicy {
    /// Whether `Prefer: tx=` counts.
    pub fn allows_override(self) -> bool {
        matches!(
            self,
            Self::CommitAllowOverride | Self::RollbackAllowOverride
        )
    }

    /// What happens where nothing is preferred.
    pub fn commits(self) -> bool {
        matches!(self, Self::Commit | Self::CommitAllowOverride)
    }
}

/// Behaviour of the REST server. The names in parentheses are PostgREST's.
#[derive(Debug, Clone)]
pub struct RestConfig {
    /// The exposed schemas, the default one first (`db-schemas`). Those that do not exist show nothing.
    pub schemas: Vec<String>,
    /// Schemas searched for functions, operators and types besides the request's (`db-extra-search-path`).
    pub extra_search_path: Vec<String>,
    /// The most rows of any resource in an answer (`db-max-rows`).
    pub max_rows: i64,
    /// The role of requests without a token (`db-anon-role`); empty refuses them.
    pub anon_role: String,
    /// Whether aggregate functions may be used (`db-aggregates-enabled`).
    pub aggregates: bool,
    /// Whether query plans are shown (`db-plan-enabled`).
    pub plans: bool,
    /// How transactions end (`db-tx-end`).
    pub tx: TxPolicy,
    /// A function called before each request, `schema.name` (`db-pre-request`).
    pub pre_request: Option<(String, String)>,
}

impl Default for RestConfig {
    /// What `supabase start` sets, and pgmq's API schema where it is installed.
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            schemas: names(&["public", "graphql_public", "pgmq_public"]),
            extra_search_path: names(&["public", "extensions"]),
            max_rows: 1000,
            anon_role: "anon".to_owned(),
            aggregates: false,
            plans: false,
            tx: TxPolicy::Commit,
            pre_request: None,
        }
    }
}

impl RestConfig {
    /// This configuration with the `pgrst.…` settings of `role` over it. Values that make no sense are passed over.
    #[must_use]
    pub(crate) fn overridden_by(&self, role: Option<&Role>) -> Self {
        let mut config = self.clone();
        for (name, value) in role
            .map(|role| role.settings.as_slice())
            .unwrap_or_default()
        {
            if let Some(name) = name.strip_prefix("pgrst.") {
                config.set(name, value);
            }
        }
        config
    }

    fn set(&mut self, name: &str, value: &str) {
        let value = value.trim();
        match name {
            "db_schemas" | "db_schema" => {
                let schemas = names(value);
                if !schemas.is_empty() {
                    self.schemas = schemas;
                }
            }
            "db_extra_search_path" => self.extra_search_path = names(value),
            "db_max_rows" => {
                if let Ok(rows) = value.parse::<i64>()
                    && rows > 0
                {
                    self.max_rows = rows;
                }
            }
            "db_anon_role" => value.clone_into(&mut self.anon_role),
            "db_aggregates_enabled" => self.aggregates = is_true(value),
            "db_plan_enabled" => self.plans = is_true(value),
            "db_tx_end" => {
                self.tx = match value {
                    "commit-allow-override" => TxPolicy::CommitAllowOverride,
                    "rollback" => TxPolicy::Rollback,
                    "rollback-allow-override" => TxPolicy::RollbackAllowOverride,
                    _ => TxPolicy::Commit,
                }
            }
            "db_pre_request" => {
                self.pre_request = match value.split_once('.') {
                    Some((schema, name)) => Some((schema.to_owned(), name.to_owned())),
                    None if value.is_empty() => None,
                    None => Some(("public".to_owned(), value.to_owned())),
                }
            }
            _ => tracing::debug!(
                setting = name,
                "this setting of PostgREST has no meaning here"
            ),
        }
    }
}

/// `a, "b", c`
fn names(value: &str) -> Vec<String> {
    value
        .split(',')
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

fn is_true(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "true" | "on" | "yes" | "1" | "t"
    )
}
