//! From foreign keys to relationships: both directions of each key, many-to-many through junctions, and all of it again for
//! views that show the columns of the keys.

use std::collections::HashMap;

use super::lineage::Face;
use super::model::{Cardinality, Junction, Keyed, Name, Relationship};

/// A foreign key as the catalog has it.
#[derive(Debug, Clone)]
pub(crate) struct ForeignKey {
    /// Who holds it.
    pub table: Name,
    /// What it points to.
    pub foreign: Name,
    /// Its name.
    pub constraint: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The columns it points to, in the same order.
    pub foreign_columns: Vec<String>,
    /// At most one row has a given key.
    pub unique: bool,
    /// All its columns are part of the primary key.
    pub in_primary_key: bool,
}

/// The most foreign keys a junction may have to be paired; beyond that it is no junction but a hub.
const MAX_JUNCTION_KEYS: usize = 32;

/// All relationships that follow from `keys`, by origin. `faces` are the views that show each table, `exposed` tells the
/// schemas that may take part.
pub(crate) fn relate(
    keys: &[ForeignKey],
    faces: &HashMap<Name, Vec<Face>>,
    exposed: &dyn Fn(&str) -> bool,
) -> HashMap<Name, Vec<Relationship>> {
    let world = World { faces, exposed };
    let mut all: HashMap<Name, Vec<Relationship>> = HashMap::new();
    let keyed = keys
        .iter()
        .flat_map(|key| world.directions(key))
        .chain(world.junctions(keys));
    for keyed in keyed {
        all.entry(keyed.origin.clone())
            .or_default()
            .push(Relationship::Keyed(keyed));
    }
    all
}

struct World<'a> {
    faces: &'a HashMap<Name, Vec<Face>>,
    exposed: &'a dyn Fn(&str) -> bool,
}

impl World<'_> {
    /// Everything that shows `columns` of `table`, the table first, with its own names of them.
    fn shown(&self, table: &Name, columns: &[String]) -> Vec<(Name, Vec<String>)> {
        let views = self.faces.get(table).map(Vec::as_slice).unwrap_or_default();
        std::iter::once((table.clone(), columns.to_vec()))
            .chain(
                views
                    .iter()
                    .filter_map(|face| Some((face.view.clone(), face.rename(columns)?))),
            )
            .filter(|(name, _)| (self.exposed)(&name.schema))
            .collect()
    }

    /// A key from both sides, between tables and views.
    fn directions(&self, key: &ForeignKey) -> Vec<Keyed> {
        let mut found = Vec::new();
        let targets = self.shown(&key.foreign, &key.foreign_columns);
        for (holder, own) in self.shown(&key.table, &key.columns) {
            for (target, theirs) in &targets {
                let (there, back) = if key.unique {
                    (
                        Cardinality::OneToOne { holds_key: true },
                        Cardinality::OneToOne { holds_key: false },
                    )
                } else {
                    (Cardinality::ManyToOne, Cardinality::OneToMany)
                };
                found.push(Keyed {
                    origin: holder.clone(),
                    target: target.clone(),
                    constraint: key.constraint.clone(),
                    cardinality: there,
                    columns: pairs(&own, theirs),
                });
                found.push(Keyed {
                    origin: target.clone(),
                    target: holder.clone(),
                    constraint: key.constraint.clone(),
                    cardinality: back,
                    columns: pairs(theirs, &own),
                });
            }
        }
        found
    }

    /// Many-to-many: two different keys of one table whose columns are all part of its primary key.
    fn junctions(&self, keys: &[ForeignKey]) -> Vec<Keyed> {
        let mut by_table: HashMap<&Name, Vec<&ForeignKey>> = HashMap::new();
        for key in keys
            .iter()
            .filter(|key| key.in_primary_key && (self.exposed)(&key.table.schema))
        {
            by_table.entry(&key.table).or_default().push(key);
        }
        let mut found = Vec::new();
        for (table, parts) in by_table {
            if parts.len() > MAX_JUNCTION_KEYS {
                continue;
            }
            for one in &parts {
                for other in parts
                    .iter()
                    .filter(|other| other.constraint != one.constraint)
                {
                    for (origin, own) in self.shown(&one.foreign, &one.foreign_columns) {
                        for (target, theirs) in self.shown(&other.foreign, &other.foreign_columns) {
                            found.push(Keyed {
                                origin: origin.clone(),
                                target,
                                constraint: String::new(),
                                cardinality: Cardinality::ManyToMany(Junction {
                                    table: table.clone(),
                                    constraints: (one.constraint.clone(), other.constraint.clone()),
                                    origin: pairs(&own, &one.columns),
                                    target: pairs(&theirs, &other.columns),
                                }),
                                columns: Vec::new(),
                            });
                        }
                    }
                }
            }
        }
        found.sort_by(|a, b| key_of(a).cmp(&key_of(b)));
        found
    }
}

fn pairs(left: &[String], right: &[String]) -> Vec<(String, String)> {
    left.iter().cloned().zip(right.iter().cloned()).collect()
}

/// A stable order, so that errors list the same candidates in the same order every time.
fn key_of(keyed: &Keyed) -> (&Name, &Name, Option<&Name>) {
    let junction = match &keyed.cardinality {
        Cardinality::ManyToMany(junction) => Some(&junction.table),
        Cardinality::ManyToOne | Cardinality::OneToMany | Cardinality::OneToOne { .. } => None,
    };
    (&keyed.origin, &keyed.target, junction)
}
