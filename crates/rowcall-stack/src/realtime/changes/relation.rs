//! Tables as changes of them are delivered: what `pgoutput` says of them, joined with the catalogs.

use std::collections::HashMap;
use std::sync::Arc;

use rowcall_realtime::frame::json_string;
use tokio_postgres::Client;

use super::PUBLICATION;
use super::pgoutput::RelationMessage;
use super::value::Shape;

const RELATION: &str = include_str!("../../../sql/realtime/relation.sql");
const TYPES: &str = include_str!("../../../sql/realtime/types.sql");
const ACCESS: &str = include_str!("../../../sql/realtime/access.sql");

/// A table.
#[derive(Debug)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) columns: Vec<Column>,
    /// Places of the primary key's columns, in the key's order; empty without one.
    pub(crate) primary_key: Vec<usize>,
    /// Row level security is on.
    pub(crate) has_policies: bool,
    /// Policies may look at the token, so that each token is checked on its own.
    pub(crate) claims_matter: bool,
    /// Part of the publication for changes, not only of the one for messages.
    pub(crate) is_published: bool,
}

/// A published column.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The name as JSON, with the colon.
    pub(crate) key_json: String,
    pub(crate) is_key: bool,
    pub(crate) type_oid: u32,
    /// The type as SQL.
    pub(crate) type_sql: String,
    /// `{"name":…,"type":…}`
    pub(crate) description: String,
    pub(crate) shape: Arc<Shape>,
}

/// What a role may see of a table.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// For each column, whether the role may select it.
    pub(crate) selectable: Vec<bool>,
    /// Row level security does not apply to the role.
    pub(crate) bypasses: bool,
}

impl Relation {
    /// Joins a relation message with the catalogs; `None` when the table is gone.
    pub(crate) async fn load(
        client: &Client,
        message: &RelationMessage,
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        let Some(row) = client
            .query_opt(RELATION, &[&message.oid, &PUBLICATION])
            .await?
        else {
            return Ok(None);
        };
        let oids: Vec<u32> = message
            .columns
            .iter()
            .map(|column| column.type_oid)
            .collect();
        let types = Types::load(client, &oids).await?;
        let columns: Vec<Column> = message
            .columns
            .iter()
            .map(|column| {
                let (name, sql, shape) = types.describe(column.type_oid);
                Column {
                    name: column.name.clone(),
                    key_json: format!("{}:", json_string(&column.name)),
                    is_key: column.is_key,
                    type_oid: column.type_oid,
                    type_sql: sql,
                    description: format!(
                        r#"{{"name":{},"type":{}}}"#,
                        json_string(&column.name),
                        json_string(&name)
                    ),
                    shape,
                }
            })
            .collect();
        let place = |name: &String| columns.iter().position(|column| column.name == *name);
        let primary_key: Vec<String> = row.get("primary_key");
        // A key that is not published as a whole is no key to us.
        let primary_key = primary_key.iter().map(place).collect::<Option<Vec<_>>>();
        Ok(Some(Self {
            oid: message.oid,
            schema: message.schema.clone(),
            table: message.table.clone(),
            columns,
            primary_key: primary_key.unwrap_or_default(),
            has_policies: row.get("relrowsecurity"),
            claims_matter: row.get("claims_matter"),
            is_published: row.get("is_published"),
        }))
    }

    /// What `role` may see of the table; nothing when there is no such role.
    pub(crate) async fn access(
        &self,
        client: &Client,
        role: &str,
    ) -> Result<Access, tokio_postgres::Error> {
        let row = client.query_opt(ACCESS, &[&self.oid, &role]).await?;
        let (bypasses, names): (bool, Vec<String>) = match row {
            Some(row) => (row.get("bypasses"), row.get("columns")),
            None => (false, Vec::new()),
        };
        let selectable = self
            .columns
            .iter()
            .map(|column| names.contains(&column.name))
            .collect();
        Ok(Access {
            selectable,
            bypasses,
        })
    }

    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// The types of a table's columns, and what they are made of.
struct Types(HashMap<u32, Type>);

struct Type {
    name: String,
    sql: String,
    element: Option<(u32, u8)>,
    base: Option<u32>,
    fields: Option<Vec<(String, u32)>>,
}

impl Types {
    async fn load(client: &Client, oids: &[u32]) -> Result<Self, tokio_postgres::Error> {
        let rows = client.query(TYPES, &[&oids]).await?;
        let types = rows.iter().map(|row| {
            let element: Option<u32> = row.get("element");
            let delimiter: Option<String> = row.get("delimiter");
            let names: Option<Vec<String>> = row.get("names");
            let types: Option<Vec<u32>> = row.get("types");
            let delimiter = delimiter
                .and_then(|text| text.bytes().next())
                .unwrap_or(b',');
            let found = Type {
                name: row.get("name"),
                sql: row.get("sql"),
                element: element.map(|element| (element, delimiter)),
                base: row.get("base"),
                fields: names
                    .zip(types)
                    .map(|(names, types)| names.into_iter().zip(types).collect()),
            };
            (row.get("oid"), found)
        });
        Ok(Self(types.collect()))
    }

    /// Name, SQL and shape of a type; one that is gone is taken for text.
    fn describe(&self, oid: u32) -> (String, String, Arc<Shape>) {
        match self.0.get(&oid) {
            Some(found) => (found.name.clone(), found.sql.clone(), self.shape(oid, 0)),
            None => ("text".to_owned(), "text".to_owned(), Arc::new(Shape::Text)),
        }
    }

    fn shape(&self, oid: u32, depth: u8) -> Arc<Shape> {
        /// Types nested deeper than this, which nobody makes, come as text.
        const MAX_DEPTH: u8 = 16;
        let built_in = match oid {
            16 => Some(Shape::Bool),
            17 => Some(Shape::Bytes),
            // int8, int2, int4, float4, float8, numeric
            20 | 21 | 23 | 700 | 701 | 1700 => Some(Shape::Number),
            // json, jsonb
            114 | 3802 => Some(Shape::Json),
            1114 => Some(Shape::Timestamp),
            1184 => Some(Shape::TimestampTz),
            _ => None,
        };
        if let Some(shape) = built_in {
            return Arc::new(shape);
        }
        let Some(found) = self.0.get(&oid).filter(|_| depth < MAX_DEPTH) else {
            return Arc::new(Shape::Text);
        };
        if let Some(base) = found.base {
            return self.shape(base, depth + 1);
        }
        if let Some((element, delimiter)) = found.element {
            return Arc::new(Shape::Array {
                delimiter,
                element: self.shape(element, depth + 1),
            });
        }
        if let Some(fields) = &found.fields {
            let field = |(name, oid): &(String, u32)| (name.clone(), self.shape(*oid, depth + 1));
            return Arc::new(Shape::Composite(fields.iter().map(field).collect()));
        }
        Arc::new(Shape::Text)
    }
}
