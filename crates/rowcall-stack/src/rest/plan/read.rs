//! Plans of reads, and of the read that shapes the answer of a write or a call: a tree of embedded resources.

use super::condition::{Condition, Order, condition, order, position, resolve_embed_conditions};
use crate::rest::error::RestError;
use crate::rest::parse::ast::{Aggregate, ColumnItem, EmbedItem, Join, Query, SelectItem, Window};
use crate::rest::schema::{Found, Name, Relation, Relationship, SchemaCache};

/// Longer names are cut before a number is added, so that PostgreSQL's cut at 63 bytes cannot make two of them equal.
const MAX_ALIAS_STEM: usize = 40;

/// Where a node's rows come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A table or view.
    Relation(Name),
    /// What was written or returned by the function.
    Written,
}

/// How the columns of a node are written.
#[derive(Debug, Clone)]
pub(crate) enum Qualifier {
    /// `"schema"."table"."column"`
    Table(Name),
    /// `"alias"."column"`
    Alias(String),
}

/// How a node hangs on its parent.
#[derive(Debug, Clone)]
pub(crate) struct Link<'a> {
    /// The relationship.
    pub relationship: &'a Relationship,
    /// The key in the parent's object.
    pub output: String,
    /// The name given in `select`, by which filters find it.
    pub(crate) used: String,
    /// The unique name of the lateral join.
    pub handle: String,
    /// The unique name of the junction, if there is one.
    pub junction: String,
    /// Inner joins drop parents.
    pub join: Option<Join>,
    /// Columns go into the parent.
    pub spread: bool,
}

impl Link<'_> {
    /// Whether parents without match go.
    pub(crate) fn is_inner(&self) -> bool {
        self.join == Some(Join::Inner)
    }

    /// Spread of a to-many relationship: its columns become arrays of the parent.
    pub(crate) fn spreads_many(&self) -> bool {
        self.spread && !self.relationship.is_to_one()
    }
}

/// One resource of a read.
#[derive(Debug, Clone)]
pub(crate) struct ReadNode<'a> {
    /// What is known about it; nothing for the result of some functions.
    pub relation: Option<&'a Relation>,
    /// Where its rows come from.
    pub source: Source,
    /// How its columns are written.
    pub qualifier: Qualifier,
    /// The columns asked for.
    pub columns: Vec<ColumnItem>,
    /// What must hold, all of it.
    pub conditions: Vec<Condition>,
    /// The order.
    pub order: Vec<Order>,
    /// The most rows.
    pub limit: Option<i64>,
    /// The rows passed over.
    pub offset: i64,
    /// How it hangs on its parent; the root does not.
    pub link: Option<Link<'a>>,
    /// Embedded resources, in the order of `select`.
    pub children: Vec<ReadNode<'a>>,
}

impl<'a> ReadNode<'a> {
    /// Whether nothing of this resource, nor of those inside, is asked for: it only joins.
    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.children.iter().all(ReadNode::is_empty)
    }

    /// Whether this select aggregates, by itself or through a spread to-one child.
    pub(crate) fn has_aggregates(&self) -> bool {
        self.columns.iter().any(|column| column.aggregate.is_some())
            || self.children.iter().any(|child| {
                child
                    .link
                    .as_ref()
                    .is_some_and(|link| link.spread && link.relationship.is_to_one())
                    && child.has_aggregates()
            })
    }

    /// The link of an embedded node.
    pub(crate) fn linked(&self) -> &Link<'a> {
        self.link
            .as_ref()
            .expect("only the root has no link, and it is nobody's child")
    }

    /// This node and all below.
    fn any(&self, test: &impl Fn(&Self) -> bool) -> bool {
        test(self) || self.children.iter().any(|child| child.any(test))
    }
}

/// What a read starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root<'a> {
    /// The relation read, written, or returned by the function; its schema and name even if nothing else is known.
    pub relation: Option<&'a Relation>,
    /// Its name, for errors and relationships.
    pub name: &'a Name,
    /// Whether rows come from the statement's own write or call.
    pub written: bool,
    /// Whether filters, orders and windows of the root belong to the read. A write takes its filters itself.
    pub takes_filters: bool,
    /// The most rows of any resource; `None` for writes.
    pub max_rows: Option<i64>,
    /// Whether aggregates are allowed.
    pub aggregates: bool,
}

/// Plans the read part of a request.
///
/// # Errors
/// Relationships that do not exist or are ambiguous, conditions on resources that are not embedded, aggregates where
/// they are off, negative windows.
pub(crate) fn plan_read<'a>(
    cache: &'a SchemaCache,
    root: Root<'a>,
    query: &Query,
) -> Result<ReadNode<'a>, RestError> {
    let mut builder = Builder {
        cache,
        root,
        aliases: 0,
    };
    let (source, qualifier) = if root.written {
        (Source::Written, Qualifier::Alias(root.name.name.clone()))
    } else {
        (
            Source::Relation(root.name.clone()),
            Qualifier::Table(root.name.clone()),
        )
    };
    let mut node = ReadNode {
        relation: root.relation,
        source,
        qualifier,
        columns: Vec::new(),
        conditions: Vec::new(),
        order: Vec::new(),
        limit: None,
        offset: 0,
        link: None,
        children: Vec::new(),
    };
    if query.select.is_empty() {
        node.columns.push(ColumnItem::plain("*"));
    } else {
        builder.fill(&mut node, root.name, &query.select)?;
    }
    builder.check_aggregates(&node)?;
    builder.conditions(&mut node, query)?;
    resolve_embed_conditions(&mut node)?;
    clamp(&mut node, root.max_rows);
    Ok(node)
}

struct Builder<'a> {
    cache: &'a SchemaCache,
    root: Root<'a>,
    aliases: usize,
}

impl<'a> Builder<'a> {
    fn fill(
        &mut self,
        node: &mut ReadNode<'a>,
        origin: &Name,
        items: &[SelectItem],
    ) -> Result<(), RestError> {
        for item in items {
            match item {
                SelectItem::Column(column) => node.columns.push(column.clone()),
                SelectItem::Embed(embed) => {
                    let child = self.embed(origin, embed)?;
                    node.children.push(child);
                }
            }
        }
        Ok(())
    }

    fn embed(&mut self, origin: &Name, embed: &EmbedItem) -> Result<ReadNode<'a>, RestError> {
        let schema = &self.root.name.schema;
        let relationship =
            match self
                .cache
                .find_relationship(schema, origin, &embed.name, embed.hint.as_deref())
            {
                Found::One(relationship) => relationship,
                Found::Nothing => {
                    return Err(RestError::no_relationship(
                        self.cache,
                        schema,
                        origin,
                        &embed.name,
                        embed.hint.as_deref(),
                    ));
                }
                Found::Several(several) => {
                    return Err(RestError::ambiguous_relationship(
                        origin,
                        &embed.name,
                        &several,
                    ));
                }
            };
        self.aliases += 1;
        let number = self.aliases;
        let target = relationship.target();
        let mut node = ReadNode {
            relation: self.cache.relations.get(target),
            source: Source::Relation(target.clone()),
            qualifier: Qualifier::Alias(alias(&target.name, number)),
            columns: Vec::new(),
            conditions: Vec::new(),
            order: Vec::new(),
            limit: None,
            offset: 0,
            link: Some(Link {
                relationship,
                output: embed.alias.clone().unwrap_or_else(|| embed.name.clone()),
                used: embed.name.clone(),
                handle: alias("pgrst", number),
                junction: alias("junction", number),
                join: embed.join,
                spread: embed.spread,
            }),
            children: Vec::new(),
        };
        self.fill(&mut node, target, &embed.items)?;
        if node.linked().spreads_many() {
            expand_star(&mut node);
        }
        Ok(node)
    }

    fn check_aggregates(&self, node: &ReadNode<'a>) -> Result<(), RestError> {
        let aggregates =
            |node: &ReadNode<'a>| node.columns.iter().any(|column| column.aggregate.is_some());
        if !self.root.aggregates && node.any(&aggregates) {
            return Err(RestError::aggregates_not_allowed());
        }
        let in_spread_many = |node: &ReadNode<'a>| {
            node.link.as_ref().is_some_and(Link::spreads_many) && node.has_aggregates()
        };
        if node.any(&in_spread_many) {
            return Err(RestError::not_implemented(
                "Aggregates are not implemented for one-to-many or many-to-many spreads.",
            ));
        }
        Ok(())
    }

    fn conditions(&self, node: &mut ReadNode<'a>, query: &Query) -> Result<(), RestError> {
        let takes = |path: &[String]| self.root.takes_filters || !path.is_empty();
        for (path, filter) in &query.filters {
            if takes(path) {
                find(node, path)?
                    .conditions
                    .push(Condition::Filter(filter.clone()));
            }
        }
        for (path, logic) in &query.logic {
            if takes(path) {
                find(node, path)?.conditions.push(condition(logic));
            }
        }
        for (path, terms) in &query.orders {
            find(node, path)?.order.extend(terms.iter().map(order));
        }
        for (path, window) in &query.windows {
            let Window { limit, offset } = *window;
            let target = find(node, path)?;
            if path.is_empty() && self.root.max_rows.is_none() {
                continue; // on writes, the root's window is ignored
            }
            if limit.is_some_and(|limit| limit < 0) {
                return Err(RestError::range(
                    "Limit should be greater than or equal to zero.",
                ));
            }
            if offset.is_some_and(|offset| offset < 0) {
                return Err(RestError::range(
                    "Offset should be greater than or equal to zero.",
                ));
            }
            target.limit = limit;
            target.offset = offset.unwrap_or(0);
        }
        Ok(())
    }
}

/// The node at `path`, by alias or by the name used in `select`.
fn find<'n, 'a>(
    node: &'n mut ReadNode<'a>,
    path: &[String],
) -> Result<&'n mut ReadNode<'a>, RestError> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(node);
    };
    let at = position(&node.children, first).ok_or_else(|| RestError::not_embedded(first))?;
    find(&mut node.children[at], rest)
}

/// No resource returns more rows than the limit.
fn clamp(node: &mut ReadNode<'_>, max_rows: Option<i64>) {
    // At most one row anyway, and a limit would keep PostgreSQL from joining it as it likes.
    let to_one = node
        .link
        .as_ref()
        .is_some_and(|link| link.relationship.is_to_one());
    if let Some(max) = max_rows.filter(|_| !to_one) {
        node.limit = Some(node.limit.map_or(max, |limit| limit.min(max)));
    }
    for child in &mut node.children {
        clamp(child, max_rows);
    }
}

/// `*` as the columns of the relation, where each needs a name of its own.
pub(super) fn expand_star(node: &mut ReadNode<'_>) {
    let Some(relation) = node.relation else {
        return;
    };
    let columns = std::mem::take(&mut node.columns);
    for column in columns {
        if column.is_star() {
            node.columns.extend(
                relation
                    .columns
                    .iter()
                    .map(|column| ColumnItem::plain(&column.name)),
            );
        } else {
            node.columns.push(column);
        }
    }
}

fn alias(stem: &str, number: usize) -> String {
    let end = stem
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= MAX_ALIAS_STEM)
        .last();
    format!("{}_{number}", &stem[..end.unwrap_or(0)])
}

/// The output name of a column of `select`.
pub(in crate::rest) fn output_name(column: &ColumnItem) -> &str {
    if let Some(alias) = &column.alias {
        return alias;
    }
    match column.aggregate {
        Some(Aggregate::Count) if column.field.name == "*" => "count",
        Some(aggregate) => aggregate.name(),
        None => column.field.path_alias().unwrap_or(&column.field.name),
    }
}
