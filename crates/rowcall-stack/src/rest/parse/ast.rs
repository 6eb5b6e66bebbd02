//! What a query string says, before anything is known about the database.

/// The names that lead from the root to an embedded resource; empty for the root.
pub(crate) type EmbedPath = Vec<String>;

/// A parsed query string.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Query {
    /// `select`; empty selects all columns.
    pub select: Vec<SelectItem>,
    /// `columns`: which keys of the body count.
    pub columns: Option<Vec<String>>,
    /// `on_conflict`: the columns of the unique constraint an upsert goes by.
    pub on_conflict: Option<Vec<String>>,
    /// Filters, each with the resource it belongs to; all of one resource must hold.
    pub filters: Vec<(EmbedPath, Filter)>,
    /// `and=(…)`, `or=(…)` and their negations.
    pub logic: Vec<(EmbedPath, Logic)>,
    /// `order`.
    pub orders: Vec<(EmbedPath, Vec<OrderTerm>)>,
    /// `limit` and `offset`; what is no number is ignored.
    pub windows: Vec<(EmbedPath, Window)>,
    /// On a function called by GET: the arguments, in order, keys possibly repeated.
    pub arguments: Vec<(String, String)>,
    /// The parameters sorted by key and encoded again, for `Content-Location`.
    pub canonical: String,
}

impl Query {
    /// `limit` and `offset` of the root.
    pub(crate) fn root_window(&self) -> Window {
        self.windows
            .iter()
            .find(|(path, _)| path.is_empty())
            .map(|(_, window)| *window)
            .unwrap_or_default()
    }
}

/// A part of the rows; negative numbers are refused later, with a range error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// The most rows to return.
    pub limit: Option<i64>,
    /// How many rows to pass over.
    pub offset: Option<i64>,
}

/// One step of a JSON path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonStep {
    /// `->>` rather than `->`.
    pub as_text: bool,
    /// What is looked up.
    pub operand: JsonOperand,
}

/// A key or an array index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JsonOperand {
    /// A member of an object.
    Key(String),
    /// An element of an array; an optional minus and digits.
    Index(String),
}

/// A column, possibly with a JSON path into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// The column, or `*`.
    pub name: String,
    /// The path into it, empty for the column itself.
    pub path: Vec<JsonStep>,
}

impl Field {
    /// A field without path.
    pub(crate) fn plain(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            path: Vec::new(),
        }
    }

    /// The name of the output column when no alias is given and there is a JSON path: its last key.
    pub(crate) fn path_alias(&self) -> Option<&str> {
        if self.path.is_empty() {
            return None;
        }
        self.path
            .iter()
            .rev()
            .find_map(|step| match &step.operand {
                JsonOperand::Key(key) => Some(key.as_str()),
                JsonOperand::Index(_) => None,
            })
            .or(Some(&self.name))
    }
}

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregate {
    /// `sum()`
    Sum,
    /// `avg()`
    Avg,
    /// `count()`
    Count,
    /// `min()`
    Min,
    /// `max()`
    Max,
}

impl Aggregate {
    /// The function's name in SQL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

/// How an embedded resource is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// Parents without a match stay.
    Left,
    /// Parents without a match go.
    Inner,
}

/// One item of `select`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SelectItem {
    /// A column, `*`, or an aggregate (`count()` alone has the field `*`).
    Column(ColumnItem),
    /// A related resource as a nested object or array, or spread into its parent.
    Embed(EmbedItem),
}

/// A column of `select`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnItem {
    /// What is read.
    pub field: Field,
    /// The output name.
    pub alias: Option<String>,
    /// A type to cast to: letters, digits, `_`, `$` and blanks only.
    pub cast: Option<String>,
    /// An aggregate over it.
    pub aggregate: Option<Aggregate>,
    /// A type to cast the aggregate to, same characters.
    pub aggregate_cast: Option<String>,
}

impl ColumnItem {
    /// `*` or a plain column.
    pub(crate) fn plain(name: &str) -> Self {
        Self {
            field: Field::plain(name),
            alias: None,
            cast: None,
            aggregate: None,
            aggregate_cast: None,
        }
    }

    /// Whether this is `*` and nothing else.
    pub(crate) fn is_star(&self) -> bool {
        self.field.name == "*" && self.aggregate.is_none()
    }
}

/// An embedded resource of `select`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EmbedItem {
    /// The name used: a table, a foreign key, a column or a function.
    pub name: String,
    /// The output name; a spread has none.
    pub alias: Option<String>,
    /// What picks one of several relationships.
    pub hint: Option<String>,
    /// `!inner` or `!left`.
    pub join: Option<Join>,
    /// `...rel(…)`: its columns become columns of the parent.
    pub spread: bool,
    /// Its own `select` list; empty selects nothing.
    pub items: Vec<SelectItem>,
}

/// An operator without quantifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SimpleOp {
    Neq,
    Cs,
    Cd,
    Ov,
    Sl,
    Sr,
    Nxr,
    Nxl,
    Adj,
}

/// An operator that takes `(any)` and `(all)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuantOp {
    Eq,
    Gte,
    Gt,
    Lte,
    Lt,
    Like,
    Ilike,
    Match,
    Imatch,
}

/// `(any)` or `(all)`: the value is an array literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantifier {
    Any,
    All,
}

/// What `is` compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsValue {
    Null,
    NotNull,
    True,
    False,
    Unknown,
}

/// A full text operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FtsOp {
    Fts,
    Plfts,
    Phfts,
    Wfts,
}

/// An operator with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Any operator that has no quantified form.
    Simple(SimpleOp, String),
    /// A comparison or pattern, possibly against all or any of an array literal.
    Quantified(QuantOp, Option<Quantifier>, String),
    /// `in.(…)`
    In(Vec<String>),
    /// `is.null` and the like.
    Is(IsValue),
    /// `isdistinct.…`
    IsDistinct(String),
    /// Full text, with an optional configuration.
    Fts(FtsOp, Option<String>, String),
}

/// A condition on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// What is compared.
    pub field: Field,
    /// `not.`
    pub negated: bool,
    /// How it is compared.
    pub operation: Operation,
}

/// Conditions joined by `and` and `or`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Logic {
    /// A single condition.
    Filter(Filter),
    /// A group of at least one term.
    Group {
        /// `not.and(…)`
        negated: bool,
        /// `or` rather than `and`.
        any: bool,
        /// The members.
        terms: Vec<Logic>,
    },
}

/// One term of `order`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderTerm {
    /// The embedded to-one resource the field belongs to.
    pub relation: Option<String>,
    /// What is ordered by.
    pub field: Field,
    /// `desc` or `asc`; `None` leaves it to PostgreSQL.
    pub descending: Option<bool>,
    /// `nullsfirst` or `nullslast`.
    pub nulls_first: Option<bool>,
}
