//! From a request to a job: the statement to run, the transaction around it, and what the answer depends on.

mod call;
mod facts;
mod transaction;

use axum::http::Method;

use super::body::{BodyKind, Payload, form_pairs};
use super::config::RestConfig;
use super::error::RestError;
use super::identity::Identity;
use super::media::{Media, PlanOptions};
use super::parse::ast::{Query, Window};
use super::parse::{Target, parse_query};
use super::plan::{Plan, Root, WriteKind, WriteRequest, plan_read, plan_write};
use super::prefer::{Count, Resolution, Return};
use super::request::{Resource, RestRequest};
use super::run::{End, Transaction};
use super::schema::{Name, Relation, Routine};
use super::sql::{Format, Sql, count_statement, statement};
use super::watch::Loaded;

/// What sort of request it is, for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GET or HEAD of a relation.
    Read,
    /// A write.
    Write(WriteKind),
    /// A function call.
    Call {
        /// It returns nothing.
        void: bool,
        /// It returns rows, so that there must be exactly one for an object.
        set: bool,
    },
}

/// What the answer depends on besides the statement's result.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The sort of request.
    pub kind: Kind,
    /// The form of the body.
    pub media: Media,
    /// No body is sent: HEAD, and writes without representation.
    pub without_body: bool,
    /// HEAD.
    pub head: bool,
    /// The rows passed over.
    pub offset: i64,
    /// `Prefer: count=`
    pub count: Option<Count>,
    /// The value of `Content-Profile`.
    pub profile: Option<String>,
    /// The value of `Content-Location`.
    pub content_location: Option<String>,
    /// The relation and primary key for `Location`.
    pub location: Option<(String, Vec<String>)>,
    /// An upsert that merges, whose status tells inserts from updates.
    pub merges: bool,
    /// The most rows a write may affect.
    pub max_affected: Option<i64>,
    /// The most rows that are counted exactly for an estimate.
    pub max_rows: i64,
    /// How the transaction ends.
    pub end: End,
    /// The values of `Preference-Applied`.
    pub applied: Vec<String>,
}

impl Facts {
    /// Whether the rows must be looked at before the transaction may be committed.
    pub(crate) fn decides(&self) -> bool {
        let writes = match self.kind {
            Kind::Read => false,
            Kind::Write(_) | Kind::Call { .. } => true,
        };
        self.end == End::Rollback
            || (writes && (self.must_be_single() || self.max_affected.is_some()))
            || self.kind == Kind::Write(WriteKind::Put)
    }

    /// Whether exactly one row must come back.
    pub(crate) fn must_be_single(&self) -> bool {
        self.media.format == Format::Object && !matches!(self.kind, Kind::Call { set: false, .. })
    }
}

/// Everything needed to answer.
#[derive(Debug)]
pub(crate) struct Job {
    /// The statement.
    pub main: Sql,
    /// The statement whose plan estimates the count.
    pub estimate: Option<Sql>,
    /// Around it.
    pub transaction: Transaction,
    /// For the answer.
    pub facts: Facts,
    /// Show the plan instead.
    pub explain: Option<PlanOptions>,
}

/// A request with its body read.
#[derive(Debug)]
pub(crate) struct Incoming<'r> {
    /// The head.
    pub request: &'r RestRequest,
    /// The body.
    pub body: &'r [u8],
    /// Who asks.
    pub identity: &'r Identity,
    /// The time zone preferred, if the database knows it.
    pub timezone: Option<&'r str>,
}

/// Plans a request on a relation or a function.
///
/// # Errors
/// Whatever is wrong with the request.
pub(crate) fn plan(loaded: &Loaded, incoming: &Incoming<'_>) -> Result<Job, RestError> {
    let request = incoming.request;
    let schema = schema(request, &loaded.config)?;
    let media = Media::negotiate(&request.accept(), loaded.config.plans)?;
    let planner = Planner {
        loaded,
        incoming,
        schema,
        media,
    };
    match &request.resource {
        Resource::Relation(name) => planner.relation(name),
        Resource::Function(name) => planner.function(name),
        Resource::Root => Err(RestError::path()),
    }
}

/// The schema of a request.
///
/// # Errors
/// PGRST106
pub(crate) fn schema<'a>(
    request: &'a RestRequest,
    config: &'a RestConfig,
) -> Result<&'a str, RestError> {
    match request.profile() {
        Some(profile) if config.schemas.iter().any(|schema| schema == profile) => Ok(profile),
        Some(profile) => Err(RestError::schema(profile, &config.schemas)),
        None => Ok(config.schemas.first().map_or("public", String::as_str)),
    }
}

struct Planner<'p> {
    loaded: &'p Loaded,
    incoming: &'p Incoming<'p>,
    schema: &'p str,
    media: Media,
}

impl Planner<'_> {
    fn request(&self) -> &RestRequest {
        self.incoming.request
    }

    fn relation(self, name: &str) -> Result<Job, RestError> {
        let kind = match self.request().method {
            Method::GET | Method::HEAD => None,
            Method::POST => Some(WriteKind::Insert),
            Method::PATCH => Some(WriteKind::Update),
            Method::PUT => Some(WriteKind::Put),
            Method::DELETE => Some(WriteKind::Delete),
            _ => return Err(RestError::method(self.request().method.as_str())),
        };
        let query = self.query(Target::Relation)?;
        let name = Name::new(self.schema, name);
        let cache = &self.loaded.cache;
        let relation = cache
            .relations
            .get(&name)
            .ok_or_else(|| RestError::no_relation(cache, &name))?;
        self.check_preferences()?;
        match kind {
            None => self.read(relation, &query),
            Some(kind) => self.write(kind, relation, &query),
        }
    }

    fn query(&self, target: Target) -> Result<Query, RestError> {
        let mut query =
            parse_query(&self.request().query, target).map_err(|error| RestError::parse(&error))?;
        if let Some((first, limit)) = self.request().range_header() {
            if limit.is_some_and(|limit| limit <= 0) {
                return Err(RestError::range(
                    "The lower boundary must be lower than or equal to the upper boundary in the Range header.",
                ));
            }
            intersect(&mut query, first, limit);
        }
        Ok(query)
    }

    fn root<'a>(&self, relation: Option<&'a Relation>, name: &'a Name) -> Root<'a> {
        Root {
            relation,
            name,
            written: false,
            takes_filters: true,
            max_rows: Some(self.loaded.config.max_rows),
            aggregates: self.loaded.config.aggregates,
        }
    }

    fn read(self, relation: &Relation, query: &Query) -> Result<Job, RestError> {
        let node = plan_read(
            &self.loaded.cache,
            self.root(Some(relation), &relation.name),
            query,
        )?;
        let head = self.request().method == Method::HEAD;
        let mut facts = self.facts(Kind::Read, node.offset, head);
        facts.content_location = Some(match query.canonical.as_str() {
            "" => format!("/{}", relation.name.name),
            canonical => format!("/{}?{canonical}", relation.name.name),
        });
        self.applied(&mut facts, None, false);
        let estimate = matches!(facts.count, Some(Count::Planned | Count::Estimated))
            .then(|| count_statement(&node));
        let main = statement(&Plan::Read(node), Self::shape(&facts));
        Ok(self.job(main, estimate, facts, true, None))
    }

    fn write(self, kind: WriteKind, relation: &Relation, query: &Query) -> Result<Job, RestError> {
        let preferences = &self.request().preferences;
        let mut root = self.root(Some(relation), &relation.name);
        root.written = true;
        root.takes_filters = false;
        root.max_rows = None;
        let mut node = plan_read(&self.loaded.cache, root, query)?;
        let payload = match kind {
            WriteKind::Delete => None,
            WriteKind::Insert | WriteKind::Update | WriteKind::Put => {
                Some(self.payload(query.columns.is_some())?)
            }
        };
        let representation = preferences.returning == Some(Return::Representation);
        let headers_only = preferences.returning == Some(Return::HeadersOnly);
        let inserts = matches!(kind, WriteKind::Insert | WriteKind::Put);
        let request = WriteRequest {
            kind,
            payload,
            ignore_duplicates: preferences
                .resolution
                .map(|resolution| resolution == Resolution::Ignore),
            defaults: preferences.missing_default == Some(true) && kind != WriteKind::Put,
            representation,
            headers_only,
        };
        let plan = plan_write(relation, request, query, &mut node)?;
        let mut facts = self.facts(Kind::Write(kind), 0, !representation);
        facts.head = false;
        facts.merges = inserts
            && plan
                .conflict
                .as_ref()
                .is_some_and(|conflict| !conflict.ignore)
            && plan.count_inserted;
        facts.max_affected = preferences
            .strict_max_affected()
            .filter(|_| matches!(kind, WriteKind::Update | WriteKind::Delete));
        if headers_only && kind == WriteKind::Insert && !relation.primary_key.is_empty() {
            facts.location = Some((relation.name.name.clone(), relation.primary_key.clone()));
        }
        let upserts = kind == WriteKind::Insert && plan.conflict.is_some();
        self.applied(&mut facts, Some(kind), upserts);
        let main = statement(&Plan::Write(plan, node), Self::shape(&facts));
        Ok(self.job(main, None, facts, false, None))
    }

    /// The body of a write.
    fn payload(&self, any_keys: bool) -> Result<Payload, RestError> {
        let kind = BodyKind::of(self.request().header("content-type"))?;
        let text = self.body_text()?;
        match kind {
            BodyKind::Json => Payload::from_json(text.to_owned(), any_keys),
            BodyKind::Csv => Payload::from_csv(text),
            BodyKind::Form => Ok(Payload::from_form(&form_pairs(text))),
            BodyKind::Text | BodyKind::Xml | BodyKind::Binary => Err(RestError::body(format!(
                "Content-Type not acceptable: {}",
                self.request().header("content-type").unwrap_or_default()
            ))),
        }
    }

    fn body_text(&self) -> Result<&str, RestError> {
        std::str::from_utf8(self.incoming.body)
            .map_err(|_| RestError::body("The body is not UTF-8"))
    }

    fn check_preferences(&self) -> Result<(), RestError> {
        let preferences = &self.request().preferences;
        let mut invalid = preferences.invalid.clone();
        if let Some(zone) = &preferences.timezone
            && self.incoming.timezone.is_none()
        {
            invalid.push(format!("timezone={zone}"));
        }
        if preferences.is_strict() && !invalid.is_empty() {
            return Err(RestError::invalid_preferences(&invalid));
        }
        Ok(())
    }

    fn job(
        &self,
        main: Sql,
        estimate: Option<Sql>,
        facts: Facts,
        read_only: bool,
        routine: Option<&Routine>,
    ) -> Job {
        let transaction = self.transaction(read_only, routine);
        Job {
            main,
            estimate,
            transaction,
            facts,
            explain: self.media.plan,
        }
    }
}

/// Narrows the root's window to a `Range` header.
fn intersect(query: &mut Query, first: i64, limit: Option<i64>) {
    let known = query.root_window();
    let offset = known.offset.unwrap_or(0);
    let end = |offset: i64, limit: Option<i64>| limit.map(|limit| offset.saturating_add(limit));
    let ends = [end(offset, known.limit), end(first, limit)];
    let start = offset.max(first);
    let last = ends.into_iter().flatten().min();
    let window = Window {
        offset: Some(start),
        limit: last.map(|last| (last - start).max(0)),
    };
    query.windows.retain(|(path, _)| !path.is_empty());
    query.windows.push((Vec::new(), window));
}
