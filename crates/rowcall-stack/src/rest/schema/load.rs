//! Reads the schema cache from the catalogs.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use tokio_postgres::{Client, Row};

use super::lineage::{Table, View, faces, view_keys};
use super::model::{Name, Relation, Relationship, Role, Routine, SchemaCache, Volatility};
use super::relate::{ForeignKey, relate};

/// The schema cache could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// PostgreSQL refused, or the connection broke.
    #[error("reading the database's schema failed: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// The catalog's answer was not understood; a bug.
    #[error("the database's schema was not understood: {0}")]
    Shape(#[from] serde_json::Error),
    /// It took longer than the limit.
    #[error("reading the database's schema took too long")]
    TimedOut,
}

/// Reads everything about `schemas`, in one read-only transaction.
///
/// The connection's `search_path` is emptied for that transaction, so that types and defaults print with their schema.
///
/// # Errors
/// When PostgreSQL refuses one of the queries.
pub(crate) async fn load(client: &Client, schemas: &[String]) -> Result<SchemaCache, LoadError> {
    client
        .batch_execute("begin isolation level repeatable read read only; set local search_path = ''; set local role none")
        .await?;
    let loaded = read(client, schemas).await;
    client.batch_execute("rollback").await?;
    loaded
}

async fn read(client: &Client, schemas: &[String]) -> Result<SchemaCache, LoadError> {
    let rows = |sql: &'static str| async move { client.query(sql, &[&schemas]).await };
    let mut cache = SchemaCache::default();

    for row in rows(include_str!("../../../sql/rest/relations.sql")).await? {
        let relation = relation(&row)?;
        cache.schemas.insert(relation.name.schema.clone());
        cache.relations.insert(relation.name.clone(), relation);
    }
    relate_all(client, schemas, &mut cache).await?;
    for row in rows(include_str!("../../../sql/rest/computed_relationships.sql")).await? {
        let origin = Name::new(row.get::<_, String>("schema"), row.get::<_, String>("name"));
        cache
            .relationships
            .entry(origin.clone())
            .or_default()
            .push(Relationship::Computed {
                function: Name::new(
                    row.get::<_, String>("function_schema"),
                    row.get::<_, String>("function_name"),
                ),
                origin,
                target: Name::new(
                    row.get::<_, String>("foreign_schema"),
                    row.get::<_, String>("foreign_name"),
                ),
                single: row.get("single_row"),
            });
    }
    for row in rows(include_str!("../../../sql/rest/routines.sql")).await? {
        let routine = routine(&row)?;
        cache
            .routines
            .entry(routine.name.clone())
            .or_default()
            .push(routine);
    }
    cache.roles = roles(
        &client
            .query(include_str!("../../../sql/rest/roles.sql"), &[])
            .await?,
    );
    Ok(cache)
}

/// Relationships by foreign keys, and the primary keys of views.
async fn relate_all(
    client: &Client,
    schemas: &[String],
    cache: &mut SchemaCache,
) -> Result<(), LoadError> {
    let keys = client
        .query(include_str!("../../../sql/rest/foreign_keys.sql"), &[])
        .await?;
    let keys: Vec<ForeignKey> = keys.iter().map(foreign_key).collect();
    let views = client
        .query(include_str!("../../../sql/rest/views.sql"), &[])
        .await?;
    let views: Vec<View> = views
        .iter()
        .map(|row| View {
            oid: row.get("oid"),
            name: Name::new(row.get::<_, String>("schema"), row.get::<_, String>("name")),
            query: row.get("query"),
        })
        .collect();
    let tables = client
        .query(include_str!("../../../sql/rest/tables.sql"), &[])
        .await?;
    let tables: HashMap<u32, Table> = tables
        .iter()
        .map(|row| (row.get("oid"), table(row)))
        .collect();
    let faces = faces(&views, &tables);
    for (view, key) in view_keys(&faces, &tables) {
        if let Some(relation) = cache.relations.get_mut(&view) {
            relation.primary_key = key;
        }
    }
    cache.relationships = relate(&keys, &faces, &|schema| {
        schemas.iter().any(|one| one == schema)
    });
    Ok(())
}

fn table(row: &Row) -> Table {
    let numbers: Vec<i32> = row.get("numbers");
    let columns: Vec<String> = row.get("columns");
    Table {
        name: Name::new(row.get::<_, String>("schema"), row.get::<_, String>("name")),
        primary_key: row.get("primary_key"),
        columns: numbers.into_iter().zip(columns).collect(),
    }
}

fn json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(row.get::<_, &str>(column))
}

fn relation(row: &Row) -> Result<Relation, LoadError> {
    Ok(Relation {
        name: Name::new(row.get::<_, String>("schema"), row.get::<_, String>("name")),
        kind: row.get::<_, &str>("kind").chars().next().unwrap_or('r'),
        writable: row.get("writable"),
        primary_key: row.get("primary_key"),
        columns: json(row, "columns")?,
    })
}

fn foreign_key(row: &Row) -> ForeignKey {
    ForeignKey {
        table: Name::new(row.get::<_, String>("schema"), row.get::<_, String>("name")),
        foreign: Name::new(
            row.get::<_, String>("foreign_schema"),
            row.get::<_, String>("foreign_name"),
        ),
        constraint: row.get("constraint_name"),
        columns: row.get("columns"),
        foreign_columns: row.get("foreign_columns"),
        unique: row.get("unique"),
        in_primary_key: row.get("in_primary_key"),
    }
}

fn routine(row: &Row) -> Result<Routine, LoadError> {
    let relation = match (
        row.get::<_, Option<String>>("relation_schema"),
        row.get("relation_name"),
    ) {
        (Some(schema), Some(name)) => Some(Name { schema, name }),
        _ => None,
    };
    Ok(Routine {
        name: Name::new(row.get::<_, String>("schema"), row.get::<_, String>("name")),
        parameters: json(row, "parameters")?,
        returns_set: row.get("returns_set"),
        returns_void: row.get("returns_void"),
        returns_composite: row.get("returns_composite"),
        relation,
        volatility: match row.get::<_, &str>("volatility") {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        settings: settings(row.get("settings")),
    })
}

fn roles(rows: &[Row]) -> HashMap<String, Role> {
    rows.iter()
        .map(|row| {
            (
                row.get("name"),
                Role {
                    usable: row.get("usable"),
                    settings: settings(row.get("settings")),
                },
            )
        })
        .collect()
}

/// `name=value` pairs as the catalogs keep them.
fn settings(entries: Vec<String>) -> Vec<(String, String)> {
    entries
        .into_iter()
        .filter_map(|entry| {
            entry
                .split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect()
}
