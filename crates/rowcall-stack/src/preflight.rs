//! Whether the stack can be put in front of a database: what the server and the role lack, all of it at once, each with the
//! way out.
//!
//! ```no_run
//! # async fn example(client: &tokio_postgres::Client) -> Result<(), tokio_postgres::Error> {
//! for problem in rowcall_stack::preflight::look(client).await?.problems() {
//!     eprintln!("{problem}");
//! }
//! # Ok(())
//! # }
//! ```

use tokio_postgres::Client;

const LOOK: &str = include_str!("../sql/preflight.sql");
/// The oldest server the stack works on.
const OLDEST: i32 = 140_000;
/// What `max_slot_wal_keep_size` says where slots may hold back any amount.
const UNBOUNDED: &str = "-1";

/// What was found out about a server and the role that connects.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "answers of the server to independent questions"
)]
pub struct Preflight {
    version_number: i32,
    version: String,
    wal_level: String,
    held_wal: String,
    is_standby: bool,
    free_slots: i64,
    has_slot: bool,
    database: String,
    role: String,
    is_superuser: bool,
    may_create_roles: bool,
    may_replicate: bool,
    may_create_schemas: bool,
    missing_schemas: Vec<String>,
    missing_roles: Vec<String>,
    foreign_roles: Vec<String>,
}

/// Something that keeps the stack from working, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The server is older than 14.
    #[error("the server is PostgreSQL {version}, and 14 or newer is needed. Upgrade it")]
    Version {
        /// As the server says it.
        version: String,
    },
    /// The server only reads.
    #[error("the server is a standby, which takes no writes. Connect to the primary")]
    Standby,
    /// Logical replication is off.
    #[error(
        "the server runs with wal_level={found}, and reading changes needs wal_level=logical. Run \
         `alter system set wal_level = logical` as a superuser and restart PostgreSQL (hosted servers have a setting for it)"
    )]
    WalLevel {
        /// The setting found.
        found: String,
    },
    /// All replication slots are taken.
    #[error(
        "all replication slots of the server are taken. Drop those nobody reads (`select * from pg_replication_slots`), or \
         raise max_replication_slots and restart PostgreSQL"
    )]
    NoSlot,
    /// The role may not read the WAL.
    #[error(
        "the role {role} may not replicate. Run `alter role {role} with replication` as a superuser (Amazon RDS: \
         `grant rds_replication to {role}`)"
    )]
    Replication {
        /// Who connects, quoted for SQL.
        role: String,
    },
    /// Roles are missing that the role may not create.
    #[error(
        "the roles {} are missing and {role} may not create them. Connect once as a superuser, who prepares the \
         database; after that {role} will do",
        missing.join(", ")
    )]
    Roles {
        /// Who connects, quoted for SQL.
        role: String,
        /// What is missing.
        missing: Vec<String>,
    },
    /// The role may not act as those that requests run as.
    #[error(
        "{role} may not act as {}. Run `grant {} to {role}` as a superuser",
        foreign.join(", "), foreign.join(", ")
    )]
    Membership {
        /// Who connects, quoted for SQL.
        role: String,
        /// Whom it may not act as.
        foreign: Vec<String>,
    },
    /// Schemas are missing that the role may not create.
    #[error(
        "the schemas {} are missing and {role} may not create them. Run `grant create on database {database} to {role}`, or \
         connect once as a superuser, who prepares the database",
        missing.join(", ")
    )]
    Schemas {
        /// Who connects, quoted for SQL.
        role: String,
        /// The database, quoted for SQL.
        database: String,
        /// What is missing.
        missing: Vec<String>,
    },
}

/// Looks at the server and the role behind a connection. Changes nothing.
///
/// # Errors
/// When the server does not answer.
pub async fn look(client: &Client) -> Result<Preflight, tokio_postgres::Error> {
    let row = client.query_one(LOOK, &[]).await?;
    Ok(Preflight {
        version_number: row.get("version_number"),
        version: row.get("version"),
        wal_level: row.get("wal_level"),
        held_wal: row.get("held_wal"),
        is_standby: row.get("is_standby"),
        free_slots: row.get("free_slots"),
        has_slot: row.get("has_slot"),
        database: row.get("database"),
        role: row.get("role"),
        is_superuser: row.get("is_superuser"),
        may_create_roles: row.get("may_create_roles"),
        may_replicate: row.get("may_replicate"),
        may_create_schemas: row.get("may_create_schemas"),
        missing_schemas: row.get("missing_schemas"),
        missing_roles: row.get("missing_roles"),
        foreign_roles: row.get("foreign_roles"),
    })
}

impl Preflight {
    /// Everything that is in the way; empty when the stack can start.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.version_number < OLDEST {
            problems.push(Problem::Version {
                version: self.version.clone(),
            });
        }
        if self.is_standby {
            problems.push(Problem::Standby);
        }
        if self.wal_level != "logical" {
            problems.push(Problem::WalLevel {
                found: self.wal_level.clone(),
            });
        }
        if self.free_slots <= 0 && !self.has_slot {
            problems.push(Problem::NoSlot);
        }
        if !self.is_superuser {
            problems.extend(self.missing_rights());
        }
        problems
    }

    fn missing_rights(&self) -> Vec<Problem> {
        let role = || quoted(&self.role);
        let mut problems = Vec::new();
        if !self.may_replicate {
            problems.push(Problem::Replication { role: role() });
        }
        if !self.missing_roles.is_empty() && !self.may_create_roles {
            problems.push(Problem::Roles {
                role: role(),
                missing: self.missing_roles.clone(),
            });
        }
        if !self.foreign_roles.is_empty() {
            problems.push(Problem::Membership {
                role: role(),
                foreign: self.foreign_roles.clone(),
            });
        }
        if !self.missing_schemas.is_empty() && !self.may_create_schemas {
            problems.push(Problem::Schemas {
                role: role(),
                database: quoted(&self.database),
                missing: self.missing_schemas.clone(),
            });
        }
        problems
    }

    /// Whether the server bounds the WAL that a replication slot holds back (`max_slot_wal_keep_size`). Only then may a slot
    /// outlive the program that reads it: otherwise a forgotten one fills the disk.
    pub fn bounds_slots(&self) -> bool {
        self.held_wal != UNBOUNDED
    }

    /// The server's version, as it says it.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// An identifier for people to paste into SQL: quoted where it has to be.
fn quoted(name: &str) -> String {
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if is_plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superuser() -> Preflight {
        Preflight {
            version_number: 140_000,
            version: "14.0".into(),
            wal_level: "logical".into(),
            held_wal: UNBOUNDED.into(),
            is_standby: false,
            free_slots: 1,
            has_slot: false,
            database: "app".into(),
            role: "postgres".into(),
            is_superuser: true,
            may_create_roles: false,
            may_replicate: false,
            may_create_schemas: false,
            missing_schemas: vec!["auth".into()],
            missing_roles: vec!["anon".into()],
            foreign_roles: Vec::new(),
        }
    }

    #[test]
    fn a_superuser_lacks_nothing_on_a_good_server() {
        assert_eq!(superuser().problems(), []);
    }

    #[test]
    fn servers_are_judged() {
        let server = Preflight {
            version_number: 130_014,
            version: "13.14".into(),
            wal_level: "replica".into(),
            is_standby: true,
            free_slots: 0,
            ..superuser()
        };
        let texts: Vec<String> = server.problems().iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 4, "{texts:#?}");
        assert!(texts[0].contains("PostgreSQL 13.14, and 14 or newer"));
        assert!(texts[1].contains("standby"));
        assert!(texts[2].contains("wal_level=replica"));
        assert!(texts[3].contains("max_replication_slots"));
    }

    #[test]
    fn our_own_slot_counts_as_a_free_one() {
        let server = Preflight {
            free_slots: 0,
            has_slot: true,
            ..superuser()
        };
        assert_eq!(server.problems(), []);
    }

    #[test]
    fn rights_that_are_missing_are_told_in_sql() {
        let role = Preflight {
            role: "my app".into(),
            is_superuser: false,
            foreign_roles: vec!["authenticated".into()],
            ..superuser()
        };
        let texts: Vec<String> = role.problems().iter().map(ToString::to_string).collect();
        assert!(
            texts[0].contains("alter role \"my app\" with replication"),
            "{texts:#?}"
        );
        assert!(
            texts[1].contains("the roles anon are missing"),
            "{texts:#?}"
        );
        assert!(
            texts[2].contains("`grant authenticated to \"my app\"`"),
            "{texts:#?}"
        );
        assert!(
            texts[3].contains("grant create on database app to \"my app\""),
            "{texts:#?}"
        );
    }
}
