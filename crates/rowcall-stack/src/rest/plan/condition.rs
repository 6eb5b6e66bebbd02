//! Conditions and order, with the embedded resources they name.

use super::read::ReadNode;
use crate::rest::error::RestError;
use crate::rest::parse::ast::{Field, Filter, IsValue, Logic, Operation, OrderTerm, Query};

/// A condition with its names resolved.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// On a field.
    Filter(Filter),
    /// An embedded resource is (not) there: the index of the child, and whether it must be there.
    Embedded {
        /// Index into `children`.
        child: usize,
        /// Whether a match must exist.
        present: bool,
    },
    /// A group.
    Group {
        /// Negated.
        negated: bool,
        /// `or`.
        any: bool,
        /// Members.
        terms: Vec<Condition>,
    },
}

/// A term of `order by`.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// The name of the to-one child whose column it is.
    pub relation: Option<String>,
    /// That child's index.
    pub child: Option<usize>,
    /// What is ordered by.
    pub field: Field,
    /// Direction.
    pub descending: Option<bool>,
    /// Nulls.
    pub nulls_first: Option<bool>,
}

/// The conditions of a write's root, resolved without children.
pub(super) fn root_conditions(query: &Query) -> Vec<Condition> {
    let filters = query.filters.iter().filter(|(path, _)| path.is_empty());
    let logic = query.logic.iter().filter(|(path, _)| path.is_empty());
    filters
        .map(|(_, filter)| Condition::Filter(filter.clone()))
        .chain(logic.map(|(_, logic)| condition(logic)))
        .collect()
}

pub(super) fn condition(logic: &Logic) -> Condition {
    match logic {
        Logic::Filter(filter) => Condition::Filter(filter.clone()),
        Logic::Group {
            negated,
            any,
            terms,
        } => Condition::Group {
            negated: *negated,
            any: *any,
            terms: terms.iter().map(condition).collect(),
        },
    }
}

pub(super) fn order(term: &OrderTerm) -> Order {
    Order {
        relation: term.relation.clone(),
        child: None,
        field: term.field.clone(),
        descending: term.descending,
        nulls_first: term.nulls_first,
    }
}

pub(super) fn position(children: &[ReadNode<'_>], name: &str) -> Option<usize> {
    let by_output = children
        .iter()
        .position(|child| child.linked().output == name);
    by_output.or_else(|| {
        children
            .iter()
            .position(|child| child.linked().used == name)
    })
}

/// Turns `rel=is.null` and `order=rel(column)` into references to children.
pub(super) fn resolve_embed_conditions(node: &mut ReadNode<'_>) -> Result<(), RestError> {
    let mut conditions = std::mem::take(&mut node.conditions);
    for condition in &mut conditions {
        resolve_condition(condition, node)?;
    }
    node.conditions = conditions;
    let children = &node.children;
    for order in &mut node.order {
        if let Some(relation) = &order.relation {
            let child =
                position(children, relation).ok_or_else(|| RestError::not_embedded(relation))?;
            if !children[child].linked().relationship.is_to_one() {
                return Err(RestError::related_order_not_to_one(relation));
            }
            order.child = Some(child);
        }
    }
    for child in &mut node.children {
        resolve_embed_conditions(child)?;
    }
    Ok(())
}

fn resolve_condition(condition: &mut Condition, node: &ReadNode<'_>) -> Result<(), RestError> {
    match condition {
        Condition::Group { terms, .. } => {
            for term in terms {
                resolve_condition(term, node)?;
            }
        }
        Condition::Filter(filter) if filter.field.path.is_empty() => {
            let name = &filter.field.name;
            let Some(child) = node
                .children
                .iter()
                .position(|child| child.linked().output == *name)
            else {
                return Ok(());
            };
            let is_null = match filter.operation {
                Operation::Is(IsValue::Null) => true,
                Operation::Is(IsValue::NotNull) => false,
                // An embed may carry the name of the column it goes by, which can be filtered as ever.
                _ if node
                    .relation
                    .is_none_or(|relation| relation.column(name).is_some()) =>
                {
                    return Ok(());
                }
                _ => return Err(RestError::bad_embed_operator(name)),
            };
            *condition = Condition::Embedded {
                child,
                present: is_null == filter.negated,
            };
        }
        Condition::Filter(_) | Condition::Embedded { .. } => {}
    }
    Ok(())
}
