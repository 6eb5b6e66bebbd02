//! The schema cache: what is in the exposed schemas, and how it relates.

mod find;
mod lineage;
mod load;
mod model;
mod relate;

pub(crate) use find::Found;
pub(crate) use load::{LoadError, load};
pub(crate) use model::{
    Cardinality, Column, Keyed, Name, Parameter, Relation, Relationship, Role, Routine,
    SchemaCache, Volatility,
};
#[cfg(test)]
pub(crate) use relate::{ForeignKey, relate};
