//! The one statement of a request: the main part, and over it the counts, the body and what SQL says about the answer.

use super::call::SCALAR;
use super::write::INSERTED;
use super::{SOURCE, Sql};
use crate::rest::plan::Plan;
use crate::rest::schema::Routine;

/// What the body is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// No body is sent.
    Nothing,
    /// An array; of a function that returns one thing, that thing.
    Json,
    /// The first row.
    Object,
    /// Text with commas.
    Csv,
    /// A feature collection, by postgis.
    GeoJson,
}

/// Which rows are counted besides those of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Total {
    /// None.
    Uncounted,
    /// All that match.
    All,
    /// Those that match, up to this many.
    UpTo(i64),
}

/// How the answer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The body.
    pub format: Format,
    /// Leave out members that are null.
    pub strip_nulls: bool,
    /// What is counted.
    pub total: Total,
    /// Read the primary key of the row that was inserted.
    pub location: bool,
}

/// Builds the statement. Its columns are: total, page, body, headers, status, inserted, location.
pub(crate) fn statement(plan: &Plan<'_>, shape: Shape) -> Sql {
    let mut sql = Sql::default();
    let node = plan.shape();
    let csv = shape.format == Format::Csv;
    let mut routine = None;
    match plan {
        Plan::Read(_) => {
            if csv {
                sql.raw("with pgrst_rows as materialized (")
                    .read(node, None)
                    .raw(") ");
            }
        }
        Plan::Write(write, _) => {
            sql.raw("with ")
                .raw(SOURCE)
                .raw(" as (")
                .write(write)
                .raw(")");
        }
        Plan::Call(call, _) => {
            routine = Some(call.routine);
            // Filters reach into functions that PostgreSQL can inline, so their rows are not materialized; but what nobody
            // reads would not be computed at all, and a function is called for what it does, too.
            let unread = shape.format == Format::Nothing || !call.routine.returns_composite;
            sql.raw("with ")
                .raw(SOURCE)
                .raw(if unread {
                    " as materialized ("
                } else {
                    " as ("
                })
                .call(call)
                .raw(")");
        }
    }
    if csv && !matches!(plan, Plan::Read(_)) {
        sql.raw(", pgrst_rows as materialized (")
            .read(node, None)
            .raw(")");
    }
    sql.raw(" select ");
    if shape.total == Total::Uncounted || matches!(plan, Plan::Write(..)) {
        sql.raw("null::bigint");
    } else {
        sql.raw("(select pg_catalog.count(*) from (")
            .counted(node, None);
        if let Total::UpTo(limit) = shape.total {
            sql.raw(" limit ").value(limit.to_string());
        }
        sql.raw(") as pgrst_total)");
    }
    sql.raw(", pg_catalog.count(*), ");
    sql.body(shape, routine);
    sql.raw(
        ", nullif(pg_catalog.current_setting('response.headers', true), '')\
         , nullif(pg_catalog.current_setting('response.status', true), '')",
    );
    sql.inserted(plan);
    sql.location(plan, shape.location);
    sql.raw(" from ");
    let nothing_back = shape.format == Format::Nothing && matches!(plan, Plan::Write(..));
    if csv {
        sql.raw("pgrst_rows");
    } else if nothing_back || shape.location {
        sql.raw(SOURCE);
    } else {
        sql.raw("(").read(node, None).raw(")");
    }
    sql.raw(" as pgrst_t");
    sql
}

impl Sql {
    fn body(&mut self, shape: Shape, routine: Option<&Routine>) {
        let scalar = routine.is_some_and(|routine| !routine.returns_composite);
        let single =
            routine.is_some_and(|routine| !routine.returns_set) || shape.format == Format::Object;
        match shape.format {
            Format::Nothing => {
                self.raw("''::text");
            }
            Format::Json | Format::Object => {
                self.raw("coalesce((");
                self.raw(if shape.strip_nulls {
                    "json_strip_nulls(json_agg(pgrst_t"
                } else {
                    "(json_agg(pgrst_t"
                });
                if scalar {
                    self.raw(".").raw(SCALAR);
                }
                self.raw("))");
                self.raw(if single {
                    "->0)::text, 'null')"
                } else {
                    ")::text, '[]')"
                });
            }
            Format::Csv => {
                self.raw(
                    "(select coalesce(string_agg(pgrst_key, ','), '') from (select row_to_json(r) as pgrst_row from pgrst_rows as r \
                     limit 1) as pgrst_first, json_object_keys(pgrst_first.pgrst_row) as pgrst_key) || E'\\n' || \
                     coalesce(string_agg(substring(pgrst_t::text, 2, length(pgrst_t::text) - 2), E'\\n'), '')",
                );
            }
            Format::GeoJson => {
                self.raw(
                    "json_build_object('type', 'FeatureCollection', 'features', \
                     coalesce(json_agg(st_asgeojson(pgrst_t)::json), '[]'))::text",
                );
            }
        }
    }

    fn inserted(&mut self, plan: &Plan<'_>) {
        match plan {
            Plan::Write(write, _) if write.count_inserted => {
                self.raw(", (select pg_catalog.count(*) filter (where ")
                    .raw(INSERTED)
                    .raw(") from ")
                    .raw(SOURCE)
                    .raw(")");
            }
            _ => {
                self.raw(", null::bigint");
            }
        }
    }

    fn location(&mut self, plan: &Plan<'_>, wanted: bool) {
        match plan {
            Plan::Write(write, _) if wanted => {
                self.raw(", (select json_build_array(");
                for (i, column) in write.relation.primary_key.iter().enumerate() {
                    if i > 0 {
                        self.raw(", ");
                    }
                    self.ident(column).raw("::text");
                }
                self.raw(")::text from ").raw(SOURCE).raw(" limit 1)");
            }
            _ => {
                self.raw(", null::text");
            }
        }
    }
}
