//! Plans of function calls: which overload, which arguments, what comes back.

use std::collections::BTreeSet;

use super::read::ReadNode;
use super::write::{Returning, needed};
use crate::rest::body::{BodyKind, Payload};
use crate::rest::error::RestError;
use crate::rest::schema::{Name, Parameter, Routine, SchemaCache};

/// Where the arguments come from.
#[derive(Debug)]
pub(crate) enum Arguments<'a> {
    /// There are none.
    None,
    /// Members of the JSON body, by name.
    Json {
        /// The parameters that are given.
        parameters: Vec<&'a Parameter>,
        /// The body.
        payload: Payload,
    },
    /// Texts of the query string or of a form, by name.
    Direct(Vec<(&'a Parameter, String)>),
    /// The whole body is the one unnamed argument.
    Body(&'a Parameter, String),
}

/// A planned call.
#[derive(Debug)]
pub(crate) struct CallPlan<'a> {
    /// The function.
    pub routine: &'a Routine,
    /// Its arguments.
    pub arguments: Arguments<'a>,
    /// The columns of its rows that are needed.
    pub returning: Returning,
}

/// What a request gives a function.
#[derive(Debug)]
pub(crate) enum CallInput {
    /// GET and HEAD: texts, names possibly repeated.
    Query(Vec<(String, String)>),
    /// POST.
    Body {
        /// What the body is.
        kind: BodyKind,
        /// A JSON object, or an array of them; forms come as pairs.
        payload: Option<Payload>,
        /// The body as it came, for a single unnamed parameter.
        raw: String,
        /// The pairs of a form.
        form: Vec<(String, String)>,
        /// `columns`: which keys count.
        columns: Option<Vec<String>>,
    },
}

impl CallInput {
    fn names(&self) -> BTreeSet<&str> {
        match self {
            Self::Query(pairs) => pairs.iter().map(|(name, _)| name.as_str()).collect(),
            Self::Body {
                columns: Some(columns),
                ..
            } => columns.iter().map(String::as_str).collect(),
            Self::Body {
                kind: BodyKind::Form,
                form,
                ..
            } => form.iter().map(|(name, _)| name.as_str()).collect(),
            Self::Body {
                payload: Some(payload),
                ..
            } => payload.keys.iter().map(String::as_str).collect(),
            Self::Body { .. } => BTreeSet::new(),
        }
    }

    /// The type that a single unnamed parameter may have.
    fn whole_body(&self) -> Option<(BodyKind, &[&str])> {
        match self {
            Self::Query(_) => None,
            Self::Body { kind, .. } => match kind {
                BodyKind::Json => Some((*kind, &["json", "jsonb"])),
                BodyKind::Text => Some((*kind, &["text"])),
                BodyKind::Xml => Some((*kind, &["xml"])),
                BodyKind::Binary => Some((*kind, &["bytea"])),
                BodyKind::Csv | BodyKind::Form => None,
            },
        }
    }
}

/// The one function of that name which takes exactly what the request gives.
///
/// # Errors
/// PGRST202 when there is none, PGRST203 when there are several.
pub(crate) fn choose_routine<'a>(
    cache: &'a SchemaCache,
    name: &Name,
    input: &CallInput,
) -> Result<&'a Routine, RestError> {
    let overloads = cache
        .routines
        .get(name)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let given = input.names();
    let whole_body_only = matches!(
        input,
        CallInput::Body {
            kind: BodyKind::Text | BodyKind::Xml | BodyKind::Binary,
            ..
        }
    );
    let by_name: Vec<_> = overloads
        .iter()
        .filter(|routine| takes(routine, &given, whole_body_only))
        .collect();
    match by_name.as_slice() {
        [one] => return Ok(one),
        [] => {}
        _ => return Err(RestError::ambiguous_function(&by_name)),
    }
    let by_body: Vec<_> = overloads
        .iter()
        .filter(
            |routine| match (routine.parameters.as_slice(), input.whole_body()) {
                ([only], Some((_, types))) => {
                    only.name.is_empty() && types.contains(&only.type_name.as_str())
                }
                _ => false,
            },
        )
        .collect();
    match by_body.as_slice() {
        [one] => Ok(one),
        [] => {
            let kind = match input {
                CallInput::Query(_) => None,
                CallInput::Body { kind, .. } => Some(*kind),
            };
            Err(RestError::no_function(cache, name, &given, kind))
        }
        _ => Err(RestError::ambiguous_function(&by_body)),
    }
}

/// Whether all required parameters are given and nothing unknown is.
fn takes(routine: &Routine, given: &BTreeSet<&str>, whole_body_only: bool) -> bool {
    if routine.parameters.is_empty() {
        return given.is_empty() && !whole_body_only;
    }
    let named = |name: &str| {
        routine
            .parameters
            .iter()
            .any(|parameter| parameter.name == name)
    };
    given.iter().all(|name| named(name))
        && routine
            .parameters
            .iter()
            .all(|parameter| !parameter.required || given.contains(parameter.name.as_str()))
}

/// Plans the call of `routine`; `shape` is how its result is read.
pub(crate) fn plan_call<'a>(
    routine: &'a Routine,
    input: CallInput,
    shape: &ReadNode<'a>,
) -> CallPlan<'a> {
    let returning = match shape.relation.filter(|_| routine.returns_composite) {
        Some(relation) => needed(shape, relation),
        None => Returning::Star,
    };
    CallPlan {
        routine,
        arguments: arguments(routine, input),
        returning,
    }
}

fn arguments(routine: &Routine, input: CallInput) -> Arguments<'_> {
    if let [only] = routine.parameters.as_slice()
        && only.name.is_empty()
        && let CallInput::Body { raw, .. } = input
    {
        return Arguments::Body(only, raw);
    }
    let given: Vec<&Parameter> = {
        let names = input.names();
        routine
            .parameters
            .iter()
            .filter(|parameter| names.contains(parameter.name.as_str()))
            .collect()
    };
    if given.is_empty() {
        return Arguments::None;
    }
    match input {
        CallInput::Query(pairs)
        | CallInput::Body {
            kind: BodyKind::Form,
            form: pairs,
            ..
        } => Arguments::Direct(
            given
                .into_iter()
                .map(|parameter| (parameter, text_of(parameter, &pairs)))
                .collect(),
        ),
        CallInput::Body {
            payload: Some(payload),
            ..
        } => Arguments::Json {
            parameters: given,
            payload,
        },
        CallInput::Body { payload: None, .. } => Arguments::None,
    }
}

/// The text given for a parameter: the last one, or for VARIADIC all of them as an array literal.
fn text_of(parameter: &Parameter, pairs: &[(String, String)]) -> String {
    let all: Vec<&str> = pairs
        .iter()
        .filter(|(name, _)| *name == parameter.name)
        .map(|(_, value)| value.as_str())
        .collect();
    if !parameter.variadic {
        return all.last().copied().unwrap_or_default().to_owned();
    }
    match all.as_slice() {
        [one] if one.starts_with('{') && one.ends_with('}') => (*one).to_owned(),
        _ => crate::rest::sql::array_literal(all),
    }
}
