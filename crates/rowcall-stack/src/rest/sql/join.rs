//! Where a node's rows come from: its relation, the resources embedded in it, and what ties it to its parent.

use super::read::spread_names;
use super::{SOURCE, Sql};
use crate::rest::plan::{Qualifier, ReadNode, Source};
use crate::rest::schema::{Cardinality, Relationship};

impl Sql {
    /// ` from …`, with the junction of many-to-many beside the target.
    pub(super) fn from(&mut self, node: &ReadNode<'_>, parent: Option<&ReadNode<'_>>) {
        self.raw(" from ");
        if let (Some(link), Some(parent)) = (&node.link, parent)
            && let Relationship::Computed {
                function, origin, ..
            } = link.relationship
        {
            // The cast picks the overload, also when the parent's rows come from a common table expression.
            self.name(function).raw("(");
            match &parent.qualifier {
                Qualifier::Table(name) => self.ident(&name.name),
                Qualifier::Alias(alias) => self.ident(alias),
            };
            self.raw("::").name(origin).raw(")");
        } else {
            match &node.source {
                Source::Relation(name) => self.name(name),
                Source::Written => self.raw(SOURCE),
            };
        }
        if let Qualifier::Alias(alias) = &node.qualifier {
            self.raw(" as ").ident(alias);
        }
        if let Some(link) = &node.link
            && let Relationship::Keyed(keyed) = link.relationship
            && let Cardinality::ManyToMany(junction) = &keyed.cardinality
        {
            self.raw(", ")
                .name(&junction.table)
                .raw(" as ")
                .ident(&link.junction);
        }
    }

    /// ` left join lateral (…) as "handle" on true` for one embedded resource.
    pub(super) fn join(&mut self, node: &ReadNode<'_>, child: &ReadNode<'_>) {
        let link = child.linked();
        let handle = &link.handle;
        self.raw(if link.is_inner() {
            " inner join lateral ("
        } else {
            " left join lateral ("
        });
        if link.relationship.is_to_one() {
            self.read(child, Some(node));
            self.raw(") as ").ident(handle).raw(" on true");
            return;
        }
        self.raw("select ");
        if link.spread && !child.is_empty() {
            self.spread_arrays(child, handle);
            self.raw(", ");
        }
        self.raw("json_agg(")
            .ident(handle)
            .raw(") as ")
            .ident(handle)
            .raw(" from (");
        self.read(child, Some(node));
        self.raw(") as ")
            .ident(handle)
            .raw(") as ")
            .ident(handle)
            .raw(" on ");
        if link.is_inner() {
            self.ident(handle)
                .raw(".")
                .ident(handle)
                .raw(" is not null");
        } else {
            self.raw("true");
        }
    }

    /// Each column of a spread to-many child as an array.
    fn spread_arrays(&mut self, child: &ReadNode<'_>, handle: &str) {
        let mut names = Vec::new();
        spread_names(child, &mut names);
        for (i, name) in names.iter().enumerate() {
            if i > 0 {
                self.raw(", ");
            }
            self.raw("json_agg(")
                .ident(handle)
                .raw(".")
                .ident(name)
                .raw(") as ")
                .ident(name);
        }
    }

    /// ` where …`: the conditions and what ties the node to its parent.
    pub(super) fn filtered(
        &mut self,
        node: &ReadNode<'_>,
        parent: Option<&ReadNode<'_>>,
        embedded: &mut dyn FnMut(&mut Self, usize, bool),
    ) {
        let tied = parent.is_some() && matches!(node.linked().relationship, Relationship::Keyed(_));
        if node.conditions.is_empty() && !tied {
            return;
        }
        self.raw(" where ");
        if let Some(parent) = parent.filter(|_| tied) {
            self.tie(node, parent);
            if !node.conditions.is_empty() {
                self.raw(" and ");
            }
        }
        if !node.conditions.is_empty() {
            self.conditions(&node.conditions, &node.qualifier, node.relation, embedded);
        }
    }

    fn tie(&mut self, node: &ReadNode<'_>, parent: &ReadNode<'_>) {
        let link = node.linked();
        let Relationship::Keyed(keyed) = link.relationship else {
            return;
        };
        let junction = Qualifier::Alias(link.junction.clone());
        let mut first = true;
        let mut equal = |sql: &mut Self, left: (&Qualifier, &str), right: (&Qualifier, &str)| {
            if !first {
                sql.raw(" and ");
            }
            first = false;
            sql.column(left.0, left.1)
                .raw(" = ")
                .column(right.0, right.1);
        };
        match &keyed.cardinality {
            Cardinality::ManyToMany(through) => {
                for (origin, own) in &through.origin {
                    equal(self, (&junction, own), (&parent.qualifier, origin));
                }
                for (target, own) in &through.target {
                    equal(self, (&junction, own), (&node.qualifier, target));
                }
            }
            Cardinality::ManyToOne | Cardinality::OneToMany | Cardinality::OneToOne { .. } => {
                for (origin, target) in &keyed.columns {
                    equal(self, (&node.qualifier, target), (&parent.qualifier, origin));
                }
            }
        }
    }
}
