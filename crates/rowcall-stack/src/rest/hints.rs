//! "Perhaps you meant …": names close to one that does not exist.

use std::collections::BTreeSet;

use super::schema::{Name, Relationship, SchemaCache};

/// How alike two names must be to be suggested.
const SIMILAR: f64 = 0.75;
/// How alike two parameter lists must be.
const SIMILAR_PARAMETERS: f64 = 0.33;
/// In larger schemas no hints are looked for: comparing would take longer than answering.
const MAX_CANDIDATES: usize = 500;

/// The candidate most like `wanted`.
fn closest<'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    least: f64,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(wanted, candidate),
                candidate,
            )
        })
        .filter(|(similarity, _)| *similarity >= least)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate)
}

/// Another table of the schema.
pub(super) fn relation(cache: &SchemaCache, wanted: &Name) -> Option<String> {
    let names: Vec<&str> = cache
        .relations
        .keys()
        .filter(|name| name.schema == wanted.schema)
        .map(|name| name.name.as_str())
        .collect();
    if names.len() > MAX_CANDIDATES {
        return None;
    }
    closest(&wanted.name, names, SIMILAR)
        .map(|name| format!("Perhaps you meant the table '{}.{name}'", wanted.schema))
}

/// Another resource that can be embedded there, or another one that can embed it.
pub(super) fn relationship(
    cache: &SchemaCache,
    schema: &str,
    origin: &Name,
    wanted: &str,
) -> Option<String> {
    let related = cache.relationships.get(origin)?;
    let names = related
        .iter()
        .filter(|relationship| relationship.target().schema == schema)
        .map(|relationship| match relationship {
            Relationship::Keyed(keyed) => keyed.target.name.as_str(),
            Relationship::Computed { function, .. } => function.name.as_str(),
        });
    closest(wanted, names, SIMILAR)
        .map(|name| format!("Perhaps you meant '{name}' instead of '{wanted}'."))
}

/// Another overload, or another function.
pub(super) fn function(
    cache: &SchemaCache,
    wanted: &Name,
    given: &BTreeSet<&str>,
) -> Option<String> {
    let list = given.iter().copied().collect::<Vec<_>>().join(", ");
    if let Some(overloads) = cache.routines.get(wanted) {
        let lists: Vec<String> = overloads
            .iter()
            .map(|routine| {
                let names: Vec<&str> = routine
                    .parameters
                    .iter()
                    .map(|parameter| parameter.name.as_str())
                    .collect();
                names.join(", ")
            })
            .collect();
        let found = closest(&list, lists.iter().map(String::as_str), SIMILAR_PARAMETERS)?;
        return Some(format!(
            "Perhaps you meant to call the function {}.{}({found})",
            wanted.schema, wanted.name
        ));
    }
    let names = cache
        .routines
        .keys()
        .filter(|name| name.schema == wanted.schema)
        .map(|name| name.name.as_str());
    closest(&wanted.name, names, SIMILAR).map(|name| {
        format!(
            "Perhaps you meant to call the function {}.{name}",
            wanted.schema
        )
    })
}
