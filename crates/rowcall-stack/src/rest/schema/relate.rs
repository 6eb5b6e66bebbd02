//! From foreign keys to relationships: both directions of each key, and many-to-many through junctions.

use std::collections::HashMap;

use super::model::{Cardinality, Junction, Keyed, Name, Relation, Relationship};

/// A foreign key as the catalog has it.
#[derive(Debug, Clone)]
pub(crate) struct ForeignKey {
    /// Who holds it.
    pub table: Name,
    /// What it points to.
    pub foreign: Name,
    /// Its name.
    pub(crate) constraint: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The columns it points to, in the same order.
    pub foreign_columns: Vec<String>,
}

/// The most foreign keys a junction may have to be paired; beyond that it is no junction but a hub.
const MAX_JUNCTION_KEYS: usize = 32;

/// All relationships that follow from `keys`, by origin.
pub(crate) fn relate(
    keys: &[ForeignKey],
    relations: &HashMap<Name, Relation>,
) -> HashMap<Name, Vec<Relationship>> {
    let mut all: HashMap<Name, Vec<Relationship>> = HashMap::new();
    let mut add = |keyed: Keyed| {
        all.entry(keyed.origin.clone())
            .or_default()
            .push(Relationship::Keyed(keyed));
    };
    for key in keys {
        let unique = relations
            .get(&key.table)
            .is_some_and(|relation| relation.is_unique(&key.columns));
        let pairs: Vec<(String, String)> = key
            .columns
            .iter()
            .cloned()
            .zip(key.foreign_columns.iter().cloned())
            .collect();
        add(Keyed {
            origin: key.table.clone(),
            target: key.foreign.clone(),
            constraint: key.constraint.clone(),
            cardinality: if unique {
                Cardinality::OneToOne { holds_key: true }
            } else {
                Cardinality::ManyToOne
            },
            columns: pairs.clone(),
        });
        add(Keyed {
            origin: key.foreign.clone(),
            target: key.table.clone(),
            constraint: key.constraint.clone(),
            cardinality: if unique {
                Cardinality::OneToOne { holds_key: false }
            } else {
                Cardinality::OneToMany
            },
            columns: pairs.into_iter().map(|(from, to)| (to, from)).collect(),
        });
    }
    for keyed in junctions(keys, relations) {
        add(keyed);
    }
    all
}

/// Many-to-many: two different keys of one table whose columns are all part of its primary key.
fn junctions(keys: &[ForeignKey], relations: &HashMap<Name, Relation>) -> Vec<Keyed> {
    let mut by_table: HashMap<&Name, Vec<&ForeignKey>> = HashMap::new();
    for key in keys {
        by_table.entry(&key.table).or_default().push(key);
    }
    let mut found = Vec::new();
    for (table, keys) in by_table {
        let Some(relation) = relations.get(table) else {
            continue;
        };
        let inside = |key: &&&ForeignKey| {
            key.columns
                .iter()
                .all(|column| relation.primary_key.contains(column))
        };
        let parts: Vec<&ForeignKey> = keys.iter().filter(inside).copied().collect();
        if parts.len() > MAX_JUNCTION_KEYS {
            continue;
        }
        for one in &parts {
            for other in &parts {
                if one.constraint == other.constraint {
                    continue;
                }
                let pairs = |key: &ForeignKey| {
                    key.foreign_columns
                        .iter()
                        .cloned()
                        .zip(key.columns.iter().cloned())
                        .collect::<Vec<_>>()
                };
                found.push(Keyed {
                    origin: one.foreign.clone(),
                    target: other.foreign.clone(),
                    constraint: String::new(),
                    cardinality: Cardinality::ManyToMany(Junction {
                        table: table.clone(),
                        constraints: (one.constraint.clone(), other.constraint.clone()),
                        origin: pairs(one),
                        target: pairs(other),
                    }),
                    columns: Vec::new(),
                });
            }
        }
    }
    found.sort_by(|a, b| key_of(a).cmp(&key_of(b)));
    found
}

/// A stable order, so that errors list the same candidates in the same order every time.
fn key_of(keyed: &Keyed) -> (&Name, &Name, Option<&Name>) {
    let junction = match &keyed.cardinality {
        Cardinality::ManyToMany(junction) => Some(&junction.table),
        Cardinality::ManyToOne | Cardinality::OneToMany | Cardinality::OneToOne { .. } => None,
    };
    (&keyed.origin, &keyed.target, junction)
}
