//! What the schema cache does not have, or has more than once.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::RestError;
use crate::rest::body::BodyKind;
use crate::rest::hints;
use crate::rest::schema::{Cardinality, Keyed, Name, Relationship, Routine, SchemaCache};

impl RestError {
    /// PGRST200
    pub(crate) fn no_relationship(
        cache: &SchemaCache,
        schema: &str,
        origin: &Name,
        target: &str,
        hint: Option<&str>,
    ) -> Self {
        let with_hint = hint
            .map(|hint| format!(" using the hint '{hint}'"))
            .unwrap_or_default();
        let suggestion = if hint.is_some() {
            None
        } else {
            hints::relationship(cache, schema, origin, target)
        };
        Self::bad(
            "PGRST200",
            format!("Could not find a relationship between '{}' and '{target}' in the schema cache", origin.name),
        )
        .details(format!(
            "Searched for a foreign key relationship between '{}' and '{target}'{with_hint} in the schema '{schema}', but no \
             matches were found.",
            origin.name
        ))
        .hint(suggestion)
    }

    /// PGRST201
    pub(crate) fn ambiguous_relationship(
        origin: &Name,
        target: &str,
        found: &[&Relationship],
    ) -> Self {
        let candidates: Vec<(Value, String)> = found
            .iter()
            .map(|relationship| candidate(relationship))
            .collect();
        let choices: Vec<String> = candidates
            .iter()
            .map(|(_, choice)| format!("'{choice}'"))
            .collect();
        let mut error = Self::new(
            StatusCode::MULTIPLE_CHOICES,
            "PGRST201",
            format!(
                "Could not embed because more than one relationship was found for '{}' and '{target}'",
                origin.name
            ),
        );
        error.hint = Value::String(format!(
            "Try changing '{target}' to one of the following: {}. Find the desired relationship in the 'details' key.",
            choices.join(", ")
        ));
        error.details = Value::Array(candidates.into_iter().map(|(details, _)| details).collect());
        error
    }

    /// PGRST202
    pub(crate) fn no_function(
        cache: &SchemaCache,
        name: &Name,
        given: &BTreeSet<&str>,
        body: Option<BodyKind>,
    ) -> Self {
        let function = format!("{}.{}", name.schema, name.name);
        let list = given.iter().copied().collect::<Vec<_>>().join(", ");
        let whole = match body {
            Some(BodyKind::Json) => Some("json/jsonb"),
            Some(BodyKind::Text) => Some("text"),
            Some(BodyKind::Xml) => Some("xml"),
            Some(BodyKind::Binary) => Some("bytea"),
            Some(BodyKind::Form | BodyKind::Csv) | None => None,
        };
        let only_whole = matches!(
            body,
            Some(BodyKind::Text | BodyKind::Xml | BodyKind::Binary)
        );
        let arguments = match given.len() {
            0 => "without parameters".to_owned(),
            1 => format!("with parameter {list}"),
            _ => format!("with parameters {list}"),
        };
        let searched = match whole {
            Some(whole) if only_whole => format!("with a single unnamed {whole} parameter"),
            Some(whole) => format!("{arguments} or with a single unnamed {whole} parameter"),
            None => arguments,
        };
        let called = if only_whole {
            function.clone()
        } else if given.is_empty() {
            format!("{function} without parameters")
        } else {
            format!("{function}({list})")
        };
        Self::new(
            StatusCode::NOT_FOUND,
            "PGRST202",
            format!("Could not find the function {called} in the schema cache"),
        )
        .details(format!(
            "Searched for the function {function} {searched}, but no matches were found in the schema cache."
        ))
        .hint(hints::function(cache, name, given))
    }

    /// PGRST203
    pub(crate) fn ambiguous_function(candidates: &[&Routine]) -> Self {
        let shown: Vec<String> = candidates
            .iter()
            .map(|routine| {
                let parameters: Vec<String> = routine
                    .parameters
                    .iter()
                    .map(|parameter| format!("{} => {}", parameter.name, parameter.type_name))
                    .collect();
                format!(
                    "{}.{}({})",
                    routine.name.schema,
                    routine.name.name,
                    parameters.join(", ")
                )
            })
            .collect();
        Self::new(
            StatusCode::MULTIPLE_CHOICES,
            "PGRST203",
            format!("Could not choose the best candidate function between: {}", shown.join(", ")),
        )
        .hint(Some(
            "Try renaming the parameters or the function itself in the database so function overloading can be resolved"
                .to_owned(),
        ))
    }

    /// PGRST204
    pub(crate) fn no_column(column: &str, relation: &str) -> Self {
        Self::bad(
            "PGRST204",
            format!("Could not find the '{column}' column of '{relation}' in the schema cache"),
        )
    }

    /// PGRST205
    pub(crate) fn no_relation(cache: &SchemaCache, name: &Name) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "PGRST205",
            format!(
                "Could not find the table '{}.{}' in the schema cache",
                name.schema, name.name
            ),
        )
        .hint(hints::relation(cache, name))
    }
}

/// A relationship as a candidate of PGRST201, and the name that picks it.
fn candidate(relationship: &Relationship) -> (Value, String) {
    match relationship {
        Relationship::Keyed(keyed) => {
            let (cardinality, told, pick) = match &keyed.cardinality {
                Cardinality::ManyToOne => ("many-to-one", constraint(keyed), &keyed.constraint),
                Cardinality::OneToMany => ("one-to-many", constraint(keyed), &keyed.constraint),
                Cardinality::OneToOne { .. } => {
                    ("one-to-one", constraint(keyed), &keyed.constraint)
                }
                Cardinality::ManyToMany(junction) => {
                    let columns = |pairs: &[(String, String)]| {
                        pairs
                            .iter()
                            .map(|(_, own)| own.as_str())
                            .collect::<Vec<_>>()
                            .join(", ")
                    };
                    let told = format!(
                        "{} using {}({}) and {}({})",
                        junction.table.name,
                        junction.constraints.0,
                        columns(&junction.origin),
                        junction.constraints.1,
                        columns(&junction.target),
                    );
                    ("many-to-many", told, &junction.table.name)
                }
            };
            let details = json!({
                "cardinality": cardinality,
                "embedding": format!("{} with {}", keyed.origin.name, keyed.target.name),
                "relationship": told,
            });
            (details, format!("{}!{pick}", keyed.target.name))
        }
        Relationship::Computed {
            function,
            origin,
            target,
            single,
        } => {
            let details = json!({
                "cardinality": if *single { "many-to-one" } else { "one-to-many" },
                "embedding": format!("{} with {}", origin.name, target.name),
                "relationship": format!("function {}", function.name),
            });
            (details, function.name.clone())
        }
    }
}

fn constraint(keyed: &Keyed) -> String {
    let own: Vec<&str> = keyed.columns.iter().map(|(own, _)| own.as_str()).collect();
    let theirs: Vec<&str> = keyed
        .columns
        .iter()
        .map(|(_, theirs)| theirs.as_str())
        .collect();
    format!(
        "{} using {}({}) and {}({})",
        keyed.constraint,
        keyed.origin.name,
        own.join(", "),
        keyed.target.name,
        theirs.join(", ")
    )
}
