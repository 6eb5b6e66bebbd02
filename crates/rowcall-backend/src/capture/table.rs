//! Looking at the table that is to be captured.

use rowcall_core::TableName;
use tokio_postgres::GenericClient;

use super::CaptureError;

/// What capturing needs to know of a table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) oid: u32,
    pub(super) name: TableName,
    pub(super) columns: Vec<String>,
    /// Computed when read; triggers do not see them.
    pub(super) virtual_columns: Vec<String>,
    pub(super) key: Vec<String>,
    /// Plain: no partitions, parents or children, so that statement-level triggers see every row.
    pub(super) plain: bool,
}

/// Columns of the published lock protocol: an update that changes nothing else is bookkeeping.
pub(super) const BOOKKEEPING: [&str; 8] = [
    "status",
    "locked_by",
    "locked_at",
    "completed_at",
    "error_message",
    "attempted_by",
    "retry_count",
    "result",
];

impl Table {
    /// The columns whose change alone makes no task: those of the protocol, on a table that carries its lock columns. On any
    /// other table `status` is the application's own word, and its change is news.
    pub(super) fn bookkeeping(&self) -> Vec<&'static str> {
        let has = |column: &str| self.columns.iter().any(|own| own == column);
        if !has("locked_by") || !has("locked_at") {
            return Vec::new();
        }
        BOOKKEEPING
            .into_iter()
            .filter(|column| has(column))
            .collect()
    }
}

/// Refuses tables that are never captured.
pub(super) fn check_name(name: &TableName) -> Result<(), CaptureError> {
    if *name == TableName::activities() {
        return Err(CaptureError::Activities);
    }
    let owner = match name.schema() {
        "rowcall" => Some("rowcall"),
        "pg_catalog" | "information_schema" | "pg_toast" => Some("PostgreSQL"),
        _ => None,
    };
    if let Some(owner) = owner {
        return Err(CaptureError::System {
            table: name.clone(),
            owner,
        });
    }
    Ok(())
}

/// Finds the table and checks that it can be captured.
pub(super) async fn inspect(
    client: &impl GenericClient,
    name: &TableName,
) -> Result<Table, CaptureError> {
    check_name(name)?;
    let sql = include_str!("../../sql/capture/table.sql");
    let Some(row) = client
        .query_opt(sql, &[&name.schema(), &name.name()])
        .await?
    else {
        let rows = client
            .query(
                include_str!("../../sql/capture/similar.sql"),
                &[&name.name()],
            )
            .await?;
        let similar = rows
            .iter()
            .filter_map(|row| TableName::new(row.get(0), row.get(1)).ok())
            .collect();
        return Err(CaptureError::NoTable {
            table: name.clone(),
            similar,
        });
    };
    let kind: &str = row.get(1);
    if let Some(kind) = not_a_table(kind) {
        return Err(CaptureError::NotATable {
            table: name.clone(),
            kind,
        });
    }
    if !row.get::<_, bool>(3) {
        return Err(CaptureError::NotOwner(name.clone()));
    }
    let key: Vec<String> = row.get(6);
    if key.is_empty() {
        return Err(CaptureError::NoKey {
            table: name.clone(),
            usable: row.get(7),
        });
    }
    Ok(Table {
        oid: row.get(0),
        name: name.clone(),
        columns: row.get(4),
        virtual_columns: row.get(5),
        key,
        plain: kind == "r" && !row.get::<_, bool>(2),
    })
}

fn not_a_table(kind: &str) -> Option<&'static str> {
    match kind {
        "r" | "p" => None,
        "v" => Some("a view"),
        "m" => Some("a materialized view"),
        "f" => Some("a foreign table"),
        "S" => Some("a sequence"),
        "i" | "I" => Some("an index"),
        "c" => Some("a type"),
        _ => Some("not a table"),
    }
}
