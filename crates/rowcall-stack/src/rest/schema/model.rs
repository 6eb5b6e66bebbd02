//! What is known about the database: the schema cache. Immutable; a reload makes a new one.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

/// A name with its schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    /// The schema.
    pub schema: String,
    /// The relation or function.
    pub name: String,
}

impl Name {
    /// A name in a schema.
    pub(crate) fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            name: name.into(),
        }
    }
}

/// A column.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as SQL.
    #[serde(rename = "type")]
    pub(crate) type_name: String,
    /// The type under a domain, else the type, without modifiers.
    pub base: String,
    /// The default, as SQL; generated columns have none.
    pub default: Option<String>,
}

/// A table or view.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    /// Its name.
    pub name: Name,
    /// `r`, `v`, `m`, `f` or `p` of `pg_class`.
    pub kind: char,
    /// The bits of `pg_relation_is_updatable`.
    pub writable: i32,
    /// The columns of the primary key in its order.
    pub primary_key: Vec<String>,
    /// The columns in declared order.
    pub columns: Vec<Column>,
}

impl Relation {
    /// The column called `name`.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether a row's system columns can be read back from an insert.
    pub(crate) fn has_system_columns(&self) -> bool {
        self.kind == 'r'
    }

    /// Whether it is a view of any sort.
    pub(crate) fn is_view(&self) -> bool {
        matches!(self.kind, 'v' | 'm')
    }

    /// Whether rows can be updated, inserted, deleted.
    pub(crate) fn can_update(&self) -> bool {
        self.writable & (1 << 2) != 0
    }

    /// See [`Self::can_update`].
    pub(crate) fn can_insert(&self) -> bool {
        self.writable & (1 << 3) != 0
    }

    /// See [`Self::can_update`].
    pub(crate) fn can_delete(&self) -> bool {
        self.writable & (1 << 4) != 0
    }
}

/// How many rows of the target belong to one of the origin, seen from the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cardinality {
    /// The origin holds the foreign key.
    ManyToOne,
    /// The target holds the foreign key.
    OneToMany,
    /// The foreign key is unique; `holds_key` tells whether the origin has it.
    OneToOne {
        /// Whether the key is on the origin's side.
        holds_key: bool,
    },
    /// Through a junction.
    ManyToMany(Junction),
}

/// The table between two others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Junction {
    /// The table.
    pub table: Name,
    /// The constraint towards the origin, and the one towards the target.
    pub(crate) constraints: (String, String),
    /// Pairs of (origin column, junction column).
    pub origin: Vec<(String, String)>,
    /// Pairs of (target column, junction column).
    pub target: Vec<(String, String)>,
}

/// How rows of one relation belong to rows of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Relationship {
    /// By foreign keys.
    Keyed(Keyed),
    /// By a function of the origin's row type.
    Computed {
        /// The function.
        function: Name,
        /// Whose row it takes.
        origin: Name,
        /// Whose rows it returns.
        target: Name,
        /// At most one row.
        single: bool,
    },
}

/// A relationship by foreign keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed {
    /// Where it starts.
    pub origin: Name,
    /// Where it leads.
    pub target: Name,
    /// The constraint; empty for many-to-many.
    pub(crate) constraint: String,
    /// How many.
    pub cardinality: Cardinality,
    /// Pairs of (origin column, target column); empty for many-to-many.
    pub columns: Vec<(String, String)>,
}

impl Keyed {
    /// Whether both ends are the same table.
    pub(crate) fn is_self(&self) -> bool {
        self.origin == self.target
    }
}

impl Relationship {
    /// Where it leads.
    pub(crate) fn target(&self) -> &Name {
        match self {
            Self::Keyed(keyed) => &keyed.target,
            Self::Computed { target, .. } => target,
        }
    }

    /// Whether a row of the origin has at most one of the target.
    pub(crate) fn is_to_one(&self) -> bool {
        match self {
            Self::Keyed(keyed) => match keyed.cardinality {
                Cardinality::ManyToOne | Cardinality::OneToOne { .. } => true,
                Cardinality::OneToMany | Cardinality::ManyToMany(_) => false,
            },
            Self::Computed { single, .. } => *single,
        }
    }

    /// The columns of the origin that the join needs; `None` when it needs the whole row.
    pub(crate) fn origin_columns(&self) -> Option<Vec<&str>> {
        match self {
            Self::Keyed(keyed) => Some(match &keyed.cardinality {
                Cardinality::ManyToMany(junction) => junction
                    .origin
                    .iter()
                    .map(|(from, _)| from.as_str())
                    .collect(),
                Cardinality::ManyToOne | Cardinality::OneToMany | Cardinality::OneToOne { .. } => {
                    keyed
                        .columns
                        .iter()
                        .map(|(from, _)| from.as_str())
                        .collect()
                }
            }),
            Self::Computed { .. } => None,
        }
    }
}

/// A parameter of a function.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Parameter {
    /// Its name; empty when it has none.
    pub name: String,
    /// Its type, as SQL.
    #[serde(rename = "type")]
    pub(crate) type_name: String,
    /// Whether a call must give it.
    pub required: bool,
    /// Whether it collects the rest.
    pub variadic: bool,
}

/// Whether a function may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volatility {
    /// It may.
    Volatile,
    /// It only reads.
    Stable,
    /// It only computes.
    Immutable,
}

/// A function.
#[derive(Debug, Clone)]
pub(crate) struct Routine {
    /// Its name.
    pub name: Name,
    /// Its parameters in order.
    pub parameters: Vec<Parameter>,
    /// `returns setof` or `table`.
    pub returns_set: bool,
    /// `returns void`.
    pub returns_void: bool,
    /// Rows rather than single values.
    pub returns_composite: bool,
    /// The relation whose rows it returns, for embedding.
    pub relation: Option<Name>,
    /// Whether it may write.
    pub volatility: Volatility,
    /// `name=value` settings it declares.
    pub settings: Vec<(String, String)>,
}

/// A database role.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    /// Whether requests may act as it.
    pub usable: bool,
    /// Its declared settings, later ones winning.
    pub settings: Vec<(String, String)>,
}

/// Everything the planner needs to know, as of one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct SchemaCache {
    /// Relations of the exposed schemas.
    pub relations: HashMap<Name, Relation>,
    /// Relationships by their origin.
    pub relationships: HashMap<Name, Vec<Relationship>>,
    /// Functions by name; overloads together.
    pub routines: HashMap<Name, Vec<Routine>>,
    /// Every role of the cluster but the built-in ones.
    pub roles: HashMap<String, Role>,
    /// The exposed schemas that exist.
    pub schemas: HashSet<String>,
}
