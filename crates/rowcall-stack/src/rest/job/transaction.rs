//! The transaction around a statement: isolation, role, claims and settings.

use super::Planner;
use crate::rest::run::{Setting, Transaction};
use crate::rest::schema::Routine;
use crate::rest::sql::Sql;

impl Planner<'_> {
    pub(super) fn transaction(&self, read_only: bool, routine: Option<&Routine>) -> Transaction {
        let config = &self.loaded.config;
        let identity = self.incoming.identity;
        let role = self.loaded.cache.roles.get(&identity.role);
        let request = self.request();
        let mut settings: Vec<Setting> = vec![(
            "search_path".into(),
            search_path(self.schema, &config.extra_search_path),
        )];
        let mut isolation = None;
        let declared = role
            .map(|role| role.settings.as_slice())
            .unwrap_or_default()
            .iter()
            .chain(
                routine
                    .map(|routine| routine.settings.as_slice())
                    .unwrap_or_default()
                    .iter()
                    .filter(|(name, _)| {
                        matches!(
                            name.as_str(),
                            "statement_timeout"
                                | "plan_filter.statement_cost_limit"
                                | "default_transaction_isolation"
                        )
                    }),
            );
        for (name, value) in declared {
            match name.as_str() {
                "default_transaction_isolation" => isolation = Some(value.to_ascii_lowercase()),
                "search_path" | "role" => {}
                _ => settings.push((name.clone().into(), value.clone())),
            }
        }
        if let Some(zone) = self.incoming.timezone {
            settings.push(("timezone".into(), zone.to_owned()));
        }
        settings.push(("role".into(), identity.role.clone()));
        settings.push(("request.jwt.claims".into(), identity.claims.clone()));
        settings.push(("request.method".into(), request.method.to_string()));
        settings.push(("request.path".into(), request.path.clone()));
        settings.push(("request.headers".into(), request.headers_json()));
        settings.push(("request.cookies".into(), request.cookies_json()));
        let begin = match (isolation.as_deref(), read_only) {
            (Some("serializable"), true) => "begin isolation level serializable read only",
            (Some("serializable"), false) => "begin isolation level serializable",
            (Some("repeatable read"), true) => "begin isolation level repeatable read read only",
            (Some("repeatable read"), false) => "begin isolation level repeatable read",
            (_, true) => "begin read only",
            (_, false) => "begin",
        };
        Transaction {
            begin,
            settings,
            pre_request: config
                .pre_request
                .as_ref()
                .map(|(schema, name)| format!("select {}.{}()", quoted(schema), quoted(name))),
            anonymous: identity.anonymous,
        }
    }
}

/// `"schema", "extra", …`
fn search_path(schema: &str, extra: &[String]) -> String {
    let mut path = quoted(schema);
    for name in extra.iter().filter(|name| *name != schema) {
        path.push_str(", ");
        path.push_str(&quoted(name));
    }
    path
}

fn quoted(name: &str) -> String {
    Sql::default().ident(name).text().to_owned()
}
