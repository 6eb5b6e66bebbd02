//! The schema cache: what is in the exposed schemas, and how it relates.

mod find;
mod load;
mod model;
mod relate;

pub use find::Found;
pub use load::{LoadError, load};
pub use model::{
    Cardinality, Column, Junction, Keyed, Name, Parameter, Relation, Relationship, Role, Routine, SchemaCache, Volatility,
};
pub use relate::{ForeignKey, relate};
