//! Jobs that call a function.

use axum::http::Method;

use super::{Job, Kind, Planner};
use crate::rest::body::{BodyKind, Payload, form_pairs};
use crate::rest::error::RestError;
use crate::rest::parse::Target;
use crate::rest::plan::{CallInput, Plan, choose_routine, plan_call, plan_read};
use crate::rest::prefer::Return;
use crate::rest::schema::{Name, Volatility};
use crate::rest::sql::statement;

impl Planner<'_> {
    pub(super) fn function(self, name: &str) -> Result<Job, RestError> {
        let method = self.request().method.clone();
        let by_query = match method {
            Method::GET | Method::HEAD => true,
            Method::POST => false,
            _ => return Err(RestError::method_on_rpc(method.as_str())),
        };
        let mut query = self.query(if by_query {
            Target::FunctionRead
        } else {
            Target::Relation
        })?;
        let input = if by_query {
            CallInput::Query(std::mem::take(&mut query.arguments))
        } else {
            self.call_body(query.columns.clone())?
        };
        let name = Name::new(self.schema, name);
        let routine = choose_routine(&self.loaded.cache, &name, &input)?;
        self.check_preferences()?;
        let relation = routine
            .relation
            .as_ref()
            .and_then(|relation| self.loaded.cache.relations.get(relation));
        let result_name = match &routine.relation {
            Some(relation) => Name::new(self.schema, &relation.name),
            None => name.clone(),
        };
        let mut root = self.root(relation, &result_name);
        root.written = true;
        if !routine.returns_composite {
            query.select.clear();
        }
        let node = plan_read(&self.loaded.cache, root, &query)?;
        let offset = node.offset;
        let plan = plan_call(routine, input, &node);
        let head = method == Method::HEAD;
        let minimal = self.request().preferences.returning == Some(Return::Minimal) && !by_query;
        let kind = Kind::Call {
            void: routine.returns_void,
            set: routine.returns_set,
        };
        let mut facts = self.facts(kind, offset, head || minimal || routine.returns_void);
        facts.head = head;
        facts.max_affected = self.request().preferences.strict_max_affected();
        if facts.max_affected.is_some() && !routine.returns_set {
            return Err(RestError::max_affected_without_set());
        }
        self.applied(&mut facts, None, false);
        let read_only = by_query || routine.volatility != Volatility::Volatile;
        let main = statement(&Plan::Call(plan, node), Self::shape(&facts));
        Ok(self.job(main, None, facts, read_only, Some(routine)))
    }

    fn call_body(&self, columns: Option<Vec<String>>) -> Result<CallInput, RestError> {
        let kind = BodyKind::of(self.request().header("content-type"))?;
        let raw = match kind {
            BodyKind::Binary => format!("\\x{}", hex::encode(self.incoming.body)),
            _ => self.body_text()?.to_owned(),
        };
        let (mut payload, mut form) = (None, Vec::new());
        match kind {
            BodyKind::Json if raw.trim().is_empty() => payload = Some(Payload::empty()),
            // What is no object may still be the one unnamed argument; so only its being JSON is checked there.
            BodyKind::Json => {
                payload = match Payload::from_json(raw.clone(), true) {
                    Ok(payload) => Some(payload),
                    Err(error) if serde_json::from_str::<serde::de::IgnoredAny>(&raw).is_err() => {
                        return Err(error);
                    }
                    Err(_) => None,
                }
            }
            BodyKind::Csv => payload = Some(Payload::from_csv(&raw)?),
            BodyKind::Form => form = form_pairs(&raw),
            BodyKind::Text | BodyKind::Xml | BodyKind::Binary => {}
        }
        Ok(CallInput::Body {
            kind,
            payload,
            raw,
            form,
            columns,
        })
    }
}
