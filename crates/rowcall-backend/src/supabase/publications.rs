//! Which tables are published, as `get_publications_full()` tells.

use rowcall_core::TableName;
use serde::Deserialize;
use serde_json::json;

use super::{
    error::RestError,
    http::{Call, Rest},
};

/// A publication and its tables.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Publication {
    /// Its name; `supabase_realtime` is the one that counts.
    pub name: String,
    /// Its tables, partitions as their parent.
    pub tables: Vec<TableName>,
}

/// The published function, whose answers come in several shapes: null for none, `tables` null, entries without names, and
/// with more or fewer fields.
#[derive(Deserialize)]
struct Wire {
    pubname: Option<String>,
    #[serde(default)]
    tables: Option<Vec<WireTable>>,
}

#[derive(Deserialize)]
struct WireTable {
    schema: Option<String>,
    table: Option<String>,
}

/// Asks for the publications; nothing when the project has no function for it.
pub(super) async fn publications(rest: &Rest) -> Result<Option<Vec<Publication>>, RestError> {
    let call = Call::rpc("get_publications_full", &json!({}));
    match rest.fetch::<Option<Vec<Wire>>>(&call).await {
        Ok(wire) => Ok(Some(read(wire.unwrap_or_default()))),
        Err(error) if error.is_missing_function() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Publication {
    /// Reads what `get_publications_full()` gave; nothing of what cannot be read.
    pub fn read_all(json: &str) -> Vec<Self> {
        let wire: Option<Option<Vec<Wire>>> = serde_json::from_str(json).ok();
        read(wire.flatten().unwrap_or_default())
    }
}

fn read(wire: Vec<Wire>) -> Vec<Publication> {
    let publications = wire.into_iter().filter_map(|one| {
        let tables = one.tables.unwrap_or_default().into_iter();
        let mut tables: Vec<TableName> = tables
            .filter_map(|table| TableName::new(&table.schema?, &table.table?).ok())
            .collect();
        tables.sort();
        tables.dedup();
        Some(Publication {
            name: one.pubname?,
            tables,
        })
    });
    publications.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_shape_is_read() {
        let wire = r#"[
            {"pubname": "supabase_realtime", "system_id": "16413", "pubinsert": true, "tables": [
                {"schema": "public", "table": "orders"}, {"schema": null, "table": null}, {"schema": "public", "table": "orders"}]},
            {"pubname": "empty", "system_id": 16414, "tables": null},
            {"pubname": "bare"},
            {"pubname": null, "tables": []}
        ]"#;
        let read = read(serde_json::from_str(wire).unwrap());
        let names: Vec<&str> = read.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["supabase_realtime", "empty", "bare"]);
        assert_eq!(read[0].tables, ["public.orders".parse().unwrap()]);
        let none: Option<Vec<Wire>> = serde_json::from_str("null").unwrap();
        assert!(none.is_none());
    }
}
