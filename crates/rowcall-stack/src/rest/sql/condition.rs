//! Fields, conditions and orders as SQL.

use super::{Sql, array_literal};
use crate::rest::parse::ast::{
    Field, Filter, FtsOp, IsValue, JsonOperand, Operation, QuantOp, Quantifier, SimpleOp,
};
use crate::rest::plan::{Condition, Order, Qualifier, ReadNode};
use crate::rest::schema::Relation;

impl Sql {
    /// `"table"."column"`, or all columns for `*`.
    pub(super) fn column(&mut self, qualifier: &Qualifier, column: &str) -> &mut Self {
        self.qualifier(qualifier).raw(".");
        if column == "*" {
            self.raw("*")
        } else {
            self.ident(column)
        }
    }

    pub(super) fn qualifier(&mut self, qualifier: &Qualifier) -> &mut Self {
        match qualifier {
            Qualifier::Table(name) => self.name(name),
            Qualifier::Alias(alias) => self.ident(alias),
        }
    }

    /// A column or a path into it. Columns that are no JSON are converted first; JSON ones are not, so that indexes apply.
    pub(super) fn field(
        &mut self,
        qualifier: &Qualifier,
        relation: Option<&Relation>,
        field: &Field,
    ) -> &mut Self {
        if field.path.is_empty() {
            return self.column(qualifier, &field.name);
        }
        let base = base_type(relation, &field.name);
        if matches!(base, Some("json" | "jsonb")) {
            self.column(qualifier, &field.name);
        } else {
            self.raw("to_jsonb(")
                .column(qualifier, &field.name)
                .raw(")");
        }
        for step in &field.path {
            self.raw(if step.as_text { "->>" } else { "->" });
            match &step.operand {
                JsonOperand::Key(key) => self.literal(key),
                // Digits with an optional minus, by the grammar; a literal would be taken for a key.
                JsonOperand::Index(index) => self.cast_index(index),
            };
        }
        self
    }

    fn cast_index(&mut self, index: &str) -> &mut Self {
        let number: i32 = index.parse().unwrap_or_default();
        self.text.push_str(&number.to_string());
        self
    }

    /// Conditions joined by `and`; something must be there.
    pub(super) fn conditions(
        &mut self,
        conditions: &[Condition],
        qualifier: &Qualifier,
        relation: Option<&Relation>,
        embedded: &mut dyn FnMut(&mut Self, usize, bool),
    ) -> &mut Self {
        self.joined(conditions, " and ", qualifier, relation, embedded)
    }

    fn joined(
        &mut self,
        conditions: &[Condition],
        separator: &'static str,
        qualifier: &Qualifier,
        relation: Option<&Relation>,
        embedded: &mut dyn FnMut(&mut Self, usize, bool),
    ) -> &mut Self {
        for (i, condition) in conditions.iter().enumerate() {
            if i > 0 {
                self.raw(separator);
            }
            match condition {
                Condition::Filter(filter) => {
                    self.filter(filter, qualifier, relation);
                }
                Condition::Embedded { child, present } => embedded(self, *child, *present),
                Condition::Group {
                    negated,
                    any,
                    terms,
                } => {
                    self.raw(if *negated { "not (" } else { "(" });
                    self.joined(
                        terms,
                        if *any { " or " } else { " and " },
                        qualifier,
                        relation,
                        embedded,
                    );
                    self.raw(")");
                }
            }
        }
        self
    }

    fn filter(&mut self, filter: &Filter, qualifier: &Qualifier, relation: Option<&Relation>) {
        if filter.negated {
            self.raw("not (");
        }
        let field = &filter.field;
        match &filter.operation {
            Operation::Simple(op, value) => {
                self.field(qualifier, relation, field)
                    .raw(simple(*op))
                    .value(value.as_str());
            }
            Operation::Quantified(op, quantifier, value) => {
                self.field(qualifier, relation, field).raw(comparison(*op));
                let value = match op {
                    QuantOp::Like | QuantOp::Ilike => value.replace('*', "%"),
                    _ => value.clone(),
                };
                match quantifier {
                    None => self.value(value),
                    Some(Quantifier::Any) => self.raw("any (").value(value).raw(")"),
                    Some(Quantifier::All) => self.raw("all (").value(value).raw(")"),
                };
            }
            // An array, so that the empty list works and one prepared statement serves any number of elements.
            Operation::In(values) => {
                self.field(qualifier, relation, field)
                    .raw(" = any (")
                    .value(array_literal(values.iter().map(String::as_str)))
                    .raw(")");
            }
            Operation::Is(value) => {
                self.field(qualifier, relation, field).raw(match value {
                    IsValue::Null => " is null",
                    IsValue::NotNull => " is not null",
                    IsValue::True => " is true",
                    IsValue::False => " is false",
                    IsValue::Unknown => " is unknown",
                });
            }
            Operation::IsDistinct(value) => {
                self.field(qualifier, relation, field)
                    .raw(" is distinct from ")
                    .value(value.as_str());
            }
            Operation::Fts(op, config, value) => {
                self.full_text(filter, *op, config.as_deref(), value, qualifier, relation);
            }
        }
        if filter.negated {
            self.raw(")");
        }
    }

    fn full_text(
        &mut self,
        filter: &Filter,
        op: FtsOp,
        config: Option<&str>,
        value: &str,
        qualifier: &Qualifier,
        relation: Option<&Relation>,
    ) {
        let config = |sql: &mut Self| {
            if let Some(config) = config {
                sql.literal(config).raw("::regconfig, ");
            }
        };
        if base_type(relation, &filter.field.name) == Some("tsvector") {
            self.field(qualifier, relation, &filter.field);
        } else {
            self.raw("to_tsvector(");
            config(self);
            self.field(qualifier, relation, &filter.field).raw(")");
        }
        self.raw(match op {
            FtsOp::Fts => " @@ to_tsquery(",
            FtsOp::Plfts => " @@ plainto_tsquery(",
            FtsOp::Phfts => " @@ phraseto_tsquery(",
            FtsOp::Wfts => " @@ websearch_to_tsquery(",
        });
        config(self);
        self.value(value).raw(")");
    }

    /// ` order by …`, or nothing.
    pub(super) fn order_by(&mut self, node: &ReadNode<'_>) -> &mut Self {
        for (i, order) in node.order.iter().enumerate() {
            self.raw(if i == 0 { " order by " } else { ", " });
            self.order(node, order);
        }
        self
    }

    fn order(&mut self, node: &ReadNode<'_>, order: &Order) {
        match order.child {
            None => self.field(&node.qualifier, node.relation, &order.field),
            Some(child) => {
                let child = &node.children[child];
                let handle = Qualifier::Alias(child.linked().handle.clone());
                self.field(&handle, child.relation, &order.field)
            }
        };
        if let Some(descending) = order.descending {
            self.raw(if descending { " desc" } else { " asc" });
        }
        if let Some(first) = order.nulls_first {
            self.raw(if first { " nulls first" } else { " nulls last" });
        }
    }
}

fn base_type<'r>(relation: Option<&'r Relation>, column: &str) -> Option<&'r str> {
    relation
        .and_then(|relation| relation.column(column))
        .map(|column| column.base.as_str())
}

fn simple(op: SimpleOp) -> &'static str {
    match op {
        SimpleOp::Neq => " <> ",
        SimpleOp::Cs => " @> ",
        SimpleOp::Cd => " <@ ",
        SimpleOp::Ov => " && ",
        SimpleOp::Sl => " << ",
        SimpleOp::Sr => " >> ",
        SimpleOp::Nxr => " &< ",
        SimpleOp::Nxl => " &> ",
        SimpleOp::Adj => " -|- ",
    }
}

fn comparison(op: QuantOp) -> &'static str {
    match op {
        QuantOp::Eq => " = ",
        QuantOp::Gte => " >= ",
        QuantOp::Gt => " > ",
        QuantOp::Lte => " <= ",
        QuantOp::Lt => " < ",
        QuantOp::Like => " like ",
        QuantOp::Ilike => " ilike ",
        QuantOp::Match => " ~ ",
        QuantOp::Imatch => " ~* ",
    }
}
