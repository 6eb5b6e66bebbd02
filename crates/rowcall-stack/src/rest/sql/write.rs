//! Inserts, updates, upserts and deletes.

use super::Sql;
use crate::rest::plan::{Qualifier, Returning, WriteKind, WritePlan};
use crate::rest::schema::Column;

/// The alias of the body's rows.
const BODY: &str = "pgrst_body";
/// The column that tells inserted rows from updated ones.
pub(super) const INSERTED: &str = "pgrst_inserted";

impl Sql {
    /// The statement that writes.
    pub(super) fn write(&mut self, plan: &WritePlan<'_>) -> &mut Self {
        match plan.kind {
            WriteKind::Insert | WriteKind::Put => self.insert(plan),
            WriteKind::Update => self.update(plan),
            WriteKind::Delete => {
                self.raw("delete from ").name(&plan.relation.name);
                self.rows(plan);
                self.returning(plan)
            }
        }
    }

    fn insert(&mut self, plan: &WritePlan<'_>) -> &mut Self {
        self.raw("insert into ").name(&plan.relation.name);
        let Some(payload) = &plan.payload else {
            return self.raw(" default values");
        };
        if plan.columns.is_empty() && !payload.is_array {
            self.raw(" default values");
        } else {
            if !plan.columns.is_empty() {
                self.raw(" (")
                    .idents(plan.columns.iter().map(|column| column.name.as_str()))
                    .raw(")");
            }
            self.raw(" select ");
            self.body_columns(&plan.columns);
            self.raw(" from ");
            self.payload(plan, payload.is_array, &payload.json);
            if plan.kind == WriteKind::Put {
                let body = Qualifier::Alias(BODY.to_owned());
                self.raw(" where ");
                self.conditions(
                    &plan.conditions,
                    &body,
                    Some(plan.relation),
                    &mut |_, _, _| {},
                );
            }
        }
        if let Some(conflict) = &plan.conflict {
            self.raw(" on conflict (")
                .idents(conflict.columns.iter().map(String::as_str))
                .raw(")");
            if conflict.ignore || plan.columns.is_empty() {
                self.raw(" do nothing");
            } else {
                self.raw(" do update set ");
                for (i, column) in plan.columns.iter().enumerate() {
                    if i > 0 {
                        self.raw(", ");
                    }
                    self.ident(&column.name)
                        .raw(" = excluded.")
                        .ident(&column.name);
                }
            }
        }
        self.returning(plan)
    }

    fn update(&mut self, plan: &WritePlan<'_>) -> &mut Self {
        let Some(payload) = plan.payload.as_ref().filter(|_| !plan.columns.is_empty()) else {
            // There is nothing to set; the right columns without rows keep the answer's shape.
            self.raw("select ");
            self.returned(plan);
            return self
                .raw(" from ")
                .name(&plan.relation.name)
                .raw(" where false");
        };
        self.raw("update ").name(&plan.relation.name).raw(" set ");
        for (i, column) in plan.columns.iter().enumerate() {
            if i > 0 {
                self.raw(", ");
            }
            self.ident(&column.name)
                .raw(" = ")
                .raw(BODY)
                .raw(".")
                .ident(&column.name);
        }
        self.raw(" from ");
        if payload.is_array {
            self.raw("(select * from ");
            self.payload(plan, true, &payload.json);
            self.raw(" limit 1) as ").raw(BODY);
        } else {
            self.payload(plan, false, &payload.json);
        }
        self.rows(plan);
        self.returning(plan)
    }

    fn rows(&mut self, plan: &WritePlan<'_>) {
        if plan.conditions.is_empty() {
            return;
        }
        self.raw(" where ");
        let qualifier = Qualifier::Table(plan.relation.name.clone());
        self.conditions(
            &plan.conditions,
            &qualifier,
            Some(plan.relation),
            &mut |_, _, _| {},
        );
    }

    fn body_columns(&mut self, columns: &[&Column]) {
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                self.raw(", ");
            }
            self.raw(BODY).raw(".").ident(&column.name);
        }
    }

    /// The body's objects as rows of the columns' types.
    fn payload(&mut self, plan: &WritePlan<'_>, is_array: bool, json: &str) {
        if plan.columns.is_empty() {
            self.raw("json_array_elements(")
                .value(json)
                .raw("::json) as ")
                .raw(BODY);
            return;
        }
        let defaults: Vec<_> = plan
            .columns
            .iter()
            .filter_map(|column| {
                column
                    .default
                    .as_deref()
                    .map(|default| (column.name.as_str(), default))
            })
            .collect();
        if !plan.defaults || defaults.is_empty() {
            self.raw(if is_array {
                "json_to_recordset("
            } else {
                "json_to_record("
            });
            self.value(json).raw("::json)");
        } else if is_array {
            // Evaluated per element, so that every row draws its own number from a sequence.
            self.raw("jsonb_to_recordset((select coalesce(jsonb_agg(");
            self.defaults(&defaults);
            self.raw(" || pgrst_element), '[]') from jsonb_array_elements(")
                .value(json);
            self.raw("::jsonb) as pgrst_element))");
        } else {
            self.raw("jsonb_to_record(");
            self.defaults(&defaults);
            self.raw(" || ").value(json).raw("::jsonb)");
        }
        self.raw(" as ").raw(BODY).raw("(");
        for (i, column) in plan.columns.iter().enumerate() {
            if i > 0 {
                self.raw(", ");
            }
            self.ident(&column.name).raw(" ").catalog(&column.type_name);
        }
        self.raw(")");
    }

    fn defaults(&mut self, defaults: &[(&str, &str)]) {
        self.raw("jsonb_build_object(");
        for (i, (name, default)) in defaults.iter().enumerate() {
            if i > 0 {
                self.raw(", ");
            }
            self.literal(name).raw(", ").catalog(default);
        }
        self.raw(")");
    }

    fn returning(&mut self, plan: &WritePlan<'_>) -> &mut Self {
        self.raw(" returning ");
        self.returned(plan);
        if plan.count_inserted {
            // A row that was there before carries the lock of this very update.
            self.raw(", (")
                .name(&plan.relation.name)
                .raw(".xmax = 0) as ")
                .raw(INSERTED);
        }
        self
    }

    fn returned(&mut self, plan: &WritePlan<'_>) {
        let qualifier = Qualifier::Table(plan.relation.name.clone());
        match &plan.returning {
            Returning::Nothing => {
                self.raw("1");
            }
            Returning::Star => {
                self.column(&qualifier, "*");
            }
            Returning::Columns(columns) => {
                for (i, column) in columns.iter().enumerate() {
                    if i > 0 {
                        self.raw(", ");
                    }
                    self.column(&qualifier, column);
                }
            }
        }
    }
}
