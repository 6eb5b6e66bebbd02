//! A tree of resources as one select with lateral joins.

use super::Sql;
use crate::rest::parse::ast::ColumnItem;
use crate::rest::plan::{ReadNode, output_name};
use crate::rest::schema::Relationship;

impl Sql {
    /// The select of `node` and of all that is embedded in it.
    pub(super) fn read(&mut self, node: &ReadNode<'_>, parent: Option<&ReadNode<'_>>) -> &mut Self {
        self.raw("select ");
        let grouped = self.select_list(node);
        self.from(node, parent);
        for child in &node.children {
            self.join(node, child);
        }
        self.filtered(node, parent, &mut |sql, child, present| {
            let child = &node.children[child];
            let link = child.linked();
            sql.ident(&link.handle);
            if link.relationship.is_to_one() {
                sql.raw(if present {
                    " is distinct from null"
                } else {
                    " is not distinct from null"
                });
            } else {
                sql.raw(".").ident(&link.handle).raw(if present {
                    " is not null"
                } else {
                    " is null"
                });
            }
        });
        for (i, position) in grouped.iter().enumerate() {
            self.raw(if i == 0 { " group by " } else { ", " })
                .number(*position);
        }
        self.order_by(node);
        if let Some(limit) = node.limit {
            self.raw(" limit ").value(limit.to_string());
        }
        if node.offset > 0 {
            self.raw(" offset ").value(node.offset.to_string());
        }
        self
    }

    /// Writes the outputs; returns the positions to group by, which is none without aggregates.
    fn select_list(&mut self, node: &ReadNode<'_>) -> Vec<usize> {
        // Spread to-one: the parent aggregates, over what this level selects under the output's name.
        let hoisted = node
            .link
            .as_ref()
            .is_some_and(|link| link.spread && link.relationship.is_to_one());
        let mut list = List {
            hoisted,
            aggregates: node.has_aggregates() && !hoisted,
            ..List::default()
        };
        let only_joins = node.columns.is_empty()
            && node.link.is_some()
            && node.children.iter().all(ReadNode::is_empty);
        if only_joins {
            // Nothing is shown of it, but its columns may be ordered by.
            self.column(&node.qualifier, "*");
            return Vec::new();
        }
        for column in &node.columns {
            if column.is_star()
                && list.aggregates
                && let Some(relation) = node.relation
            {
                for known in &relation.columns {
                    self.output(&mut list, node, &ColumnItem::plain(&known.name));
                }
            } else {
                self.output(&mut list, node, column);
            }
        }
        for child in node.children.iter().filter(|child| !child.is_empty()) {
            self.embed_outputs(&mut list, child);
        }
        if list.aggregates {
            list.plain
        } else {
            Vec::new()
        }
    }

    /// One column, cast and aggregated as asked.
    fn output(&mut self, list: &mut List, node: &ReadNode<'_>, column: &ColumnItem) {
        self.separate(list);
        if column.is_star() {
            self.column(&node.qualifier, "*");
            return;
        }
        let aggregate = column.aggregate.filter(|_| !list.hoisted);
        let output = output_name(column);
        if column.field.name == "*" {
            match aggregate {
                Some(_) => self.casted(column.aggregate_cast.as_deref(), |sql| {
                    sql.raw("count(*)");
                }),
                None => self.raw("1"),
            };
        } else {
            let value = |sql: &mut Self| {
                sql.casted(column.cast.as_deref(), |sql| {
                    sql.field(&node.qualifier, node.relation, &column.field);
                });
            };
            match aggregate {
                Some(function) => {
                    self.casted(column.aggregate_cast.as_deref(), |sql| {
                        sql.raw(function.name()).raw("(");
                        value(sql);
                        sql.raw(")");
                    });
                }
                None => value(self),
            }
        }
        self.raw(" as ").ident(output);
        if aggregate.is_none() {
            list.plain.push(list.count);
        }
    }

    /// What a child contributes to its parent's outputs.
    fn embed_outputs(&mut self, list: &mut List, child: &ReadNode<'_>) {
        let link = child.linked();
        let handle = &link.handle;
        if link.spread {
            self.spread_outputs(list, child, handle, link.relationship.is_to_one());
            return;
        }
        self.separate(list);
        list.plain.push(list.count);
        // JSON cannot be grouped by, JSONB can.
        match (link.relationship.is_to_one(), list.aggregates) {
            (true, false) => self.raw("row_to_json(").ident(handle).raw(".*)"),
            (true, true) => self.raw("to_jsonb(").ident(handle).raw(".*)"),
            (false, false) => self
                .raw("coalesce(")
                .ident(handle)
                .raw(".")
                .ident(handle)
                .raw(", '[]')"),
            (false, true) => self
                .raw("coalesce(")
                .ident(handle)
                .raw(".")
                .ident(handle)
                .raw("::jsonb, '[]')"),
        };
        self.raw(" as ").ident(&link.output);
    }

    /// The columns of a spread child under their own names; those of its own spreads are among them.
    fn spread_outputs(
        &mut self,
        list: &mut List,
        child: &ReadNode<'_>,
        handle: &str,
        to_one: bool,
    ) {
        let column = |sql: &mut Self, list: &mut List, name: &str| {
            sql.separate(list);
            list.plain.push(list.count);
            if to_one {
                sql.ident(handle).raw(".").ident(name);
            } else {
                sql.raw("coalesce(")
                    .ident(handle)
                    .raw(".")
                    .ident(name)
                    .raw(", '[]')");
            }
            sql.raw(" as ").ident(name);
        };
        for item in &child.columns {
            if item.is_star() {
                if let Some(relation) = child.relation.filter(|_| list.aggregates) {
                    for known in &relation.columns {
                        column(self, list, &known.name);
                    }
                } else {
                    self.separate(list);
                    self.ident(handle).raw(".*");
                }
            } else if let Some(function) = item.aggregate.filter(|_| list.aggregates) {
                let output = output_name(item);
                self.separate(list);
                self.casted(item.aggregate_cast.as_deref(), |sql| {
                    sql.raw(function.name())
                        .raw("(")
                        .ident(handle)
                        .raw(".")
                        .ident(output)
                        .raw(")");
                });
                self.raw(" as ").ident(output);
            } else {
                column(self, list, output_name(item));
            }
        }
        for grandchild in child.children.iter().filter(|child| !child.is_empty()) {
            let link = grandchild.linked();
            if link.spread {
                self.spread_outputs(
                    list,
                    grandchild,
                    handle,
                    to_one && link.relationship.is_to_one(),
                );
            } else {
                column(self, list, &link.output);
            }
        }
    }

    /// `cast(… as type)`, or just what `inner` writes.
    fn casted(&mut self, cast: Option<&str>, inner: impl FnOnce(&mut Self)) -> &mut Self {
        match cast {
            None => inner(self),
            Some(cast) => {
                self.raw("cast(");
                inner(self);
                self.raw(" as ").cast_type(cast).raw(")");
            }
        }
        self
    }

    fn separate(&mut self, list: &mut List) {
        if list.count > 0 {
            self.raw(", ");
        }
        list.count += 1;
    }

    /// `select 1 from …` with the filters of the root and whatever embedded resources must exist: what `count` counts.
    pub(super) fn counted(
        &mut self,
        node: &ReadNode<'_>,
        parent: Option<&ReadNode<'_>>,
    ) -> &mut Self {
        self.raw("select 1");
        self.from(node, parent);
        self.filtered(node, parent, &mut |sql, child, present| {
            sql.raw(if present { "exists (" } else { "not exists (" });
            sql.counted(&node.children[child], Some(node)).raw(")");
        });
        let tied = parent.is_some() && matches!(node.linked().relationship, Relationship::Keyed(_));
        let mut first = node.conditions.is_empty() && !tied;
        for child in node
            .children
            .iter()
            .filter(|child| child.linked().is_inner())
        {
            self.raw(if first {
                " where exists ("
            } else {
                " and exists ("
            });
            self.counted(child, Some(node)).raw(")");
            first = false;
        }
        self
    }
}

/// The count of a read as a statement of its own, for the planner's estimate.
pub(crate) fn count_statement(node: &ReadNode<'_>) -> Sql {
    let mut sql = Sql::default();
    sql.counted(node, None);
    sql
}

/// The names under which a spread child's columns appear in its parent.
pub(super) fn spread_names(child: &ReadNode<'_>, names: &mut Vec<String>) {
    names.extend(
        child
            .columns
            .iter()
            .map(|column| output_name(column).to_owned()),
    );
    for grandchild in child.children.iter().filter(|child| !child.is_empty()) {
        let link = grandchild.linked();
        if link.spread {
            spread_names(grandchild, names);
        } else {
            names.push(link.output.clone());
        }
    }
}

/// The state of a select list being written.
#[derive(Default)]
struct List {
    count: usize,
    /// This select aggregates.
    aggregates: bool,
    /// The parent does it for this select.
    hoisted: bool,
    /// Positions of the outputs that are no aggregates.
    plain: Vec<usize>,
}
