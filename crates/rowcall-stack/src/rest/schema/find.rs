//! Which relationship a name in `select` means.

use super::model::{Cardinality, Keyed, Name, Relationship, SchemaCache};

/// What came of looking for a relationship.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// Exactly one.
    One(&'a Relationship),
    /// None.
    Nothing,
    /// Several; the request must say which.
    Several(Vec<&'a Relationship>),
}

impl SchemaCache {
    /// The relationship from `origin` that `target`, with an optional `hint`, names, leading into schema `schema`.
    ///
    /// Without a hint the target is a table, a foreign key or the single column of one on the origin's side. With a hint
    /// it is the table, and the hint a foreign key, its single column on either side, or the junction.
    pub(crate) fn find_relationship(
        &self,
        schema: &str,
        origin: &Name,
        target: &str,
        hint: Option<&str>,
    ) -> Found<'_> {
        let all = self
            .relationships
            .get(origin)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let all = || {
            all.iter()
                .filter(|relationship| relationship.target().schema == schema)
        };
        // A computed relationship overrides a detected one of the same name.
        let computed: Vec<_> = all()
            .filter(|relationship| {
                matches!(relationship, Relationship::Computed { function, .. } if function.name == target)
            })
            .collect();
        let found = if computed.is_empty() {
            all()
                .filter(|relationship| match relationship {
                    Relationship::Keyed(keyed) => matches(keyed, target, hint, self),
                    Relationship::Computed { .. } => false,
                })
                .collect()
        } else {
            computed
        };
        match found.as_slice() {
            [] => Found::Nothing,
            [one] => Found::One(one),
            _ => Found::Several(found),
        }
    }
}

fn matches(keyed: &Keyed, target: &str, hint: Option<&str>, cache: &SchemaCache) -> bool {
    let holds_key = matches!(
        keyed.cardinality,
        Cardinality::ManyToOne | Cardinality::OneToOne { holds_key: true }
    );
    let is_junction = matches!(keyed.cardinality, Cardinality::ManyToMany(_));
    let is_target = target == keyed.target.name;
    let by_constraint = |name: &str| !is_junction && keyed.constraint == name;
    let by_own_column = |name: &str| single(keyed).is_some_and(|(own, _)| own == name);
    let by_target_column = |name: &str| single(keyed).is_some_and(|(_, theirs)| theirs == name);
    let by_junction = |name: &str| match &keyed.cardinality {
        Cardinality::ManyToMany(junction) => {
            junction.table.name == name
                || junction.constraints.0 == name
                || junction.constraints.1 == name
        }
        Cardinality::ManyToOne | Cardinality::OneToMany | Cardinality::OneToOne { .. } => false,
    };
    if keyed.is_self() {
        // One key, two directions of the same name: the table name means the children, the key's column the parent.
        return match hint {
            None if is_junction => is_target,
            None => (is_target && !holds_key) || (holds_key && by_own_column(target)),
            Some(hint) if is_junction => is_target && by_junction(hint),
            Some(hint) => {
                is_target && !holds_key && (by_target_column(hint) || by_constraint(hint))
            }
        };
    }
    match hint {
        None => {
            let target_is_view = cache
                .relations
                .get(&keyed.target)
                .is_some_and(super::model::Relation::is_view);
            is_target || (!target_is_view && (by_constraint(target) || by_own_column(target)))
        }
        Some(hint) => {
            is_target
                && (by_constraint(hint)
                    || by_own_column(hint)
                    || by_target_column(hint)
                    || by_junction(hint))
        }
    }
}

/// The pair of columns of a key that has only one.
fn single(keyed: &Keyed) -> Option<(&str, &str)> {
    match keyed.columns.as_slice() {
        [(own, theirs)] => Some((own, theirs)),
        _ => None,
    }
}
