//! From a request to a job: the statement to run, the transaction around it, and what the answer depends on.

use axum::http::Method;

use super::body::{BodyKind, Payload, form_pairs};
use super::config::RestConfig;
use super::error::RestError;
use super::identity::Identity;
use super::media::{Media, PlanOptions};
use super::parse::ast::{Query, Window};
use super::parse::{Target, parse_query};
use super::plan::{
    CallInput, Plan, Root, WriteKind, WriteRequest, choose_routine, plan_call, plan_read,
    plan_write,
};
use super::prefer::{Count, Resolution, Return, TxEnd};
use super::request::{Resource, RestRequest};
use super::run::{End, Setting, Transaction};
use super::schema::{Name, Relation, Routine, Volatility};
use super::sql::{Format, Shape, Sql, Total, count_statement, statement};
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

    fn function(self, name: &str) -> Result<Job, RestError> {
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

    fn facts(&self, kind: Kind, offset: i64, without_body: bool) -> Facts {
        let config = &self.loaded.config;
        let preferences = &self.request().preferences;
        let commits = match preferences.tx.filter(|_| config.tx.allows_override()) {
            Some(TxEnd::Commit) => true,
            Some(TxEnd::Rollback) => false,
            None => config.tx.commits(),
        };
        Facts {
            kind,
            media: self.media.clone(),
            without_body,
            head: without_body,
            offset,
            count: preferences.count,
            profile: (config.schemas.len() > 1).then(|| self.schema.to_owned()),
            content_location: None,
            location: None,
            merges: false,
            max_affected: None,
            max_rows: config.max_rows,
            end: if commits { End::Commit } else { End::Rollback },
            applied: Vec::new(),
        }
    }

    /// Fills in what is said of preferences, in the order clients know.
    fn applied(&self, facts: &mut Facts, write: Option<WriteKind>, upserts: bool) {
        let preferences = &self.request().preferences;
        let mut add = |name: &str, value: &str| facts.applied.push(format!("{name}={value}"));
        if let Some(resolution) = preferences.resolution.filter(|_| upserts) {
            add(
                "resolution",
                if resolution == Resolution::Ignore {
                    "ignore-duplicates"
                } else {
                    "merge-duplicates"
                },
            );
        }
        if let Some(default) = preferences.missing_default
            && matches!(write, Some(WriteKind::Insert | WriteKind::Update))
        {
            add("missing", if default { "default" } else { "null" });
        }
        if let Some(returning) = preferences.returning.filter(|_| write.is_some()) {
            add(
                "return",
                match returning {
                    Return::Representation => "representation",
                    Return::Minimal => "minimal",
                    Return::HeadersOnly => "headers-only",
                },
            );
        }
        if let Some(count) = preferences.count {
            add(
                "count",
                match count {
                    Count::Exact => "exact",
                    Count::Planned => "planned",
                    Count::Estimated => "estimated",
                },
            );
        }
        if let Some(tx) = preferences
            .tx
            .filter(|_| self.loaded.config.tx.allows_override())
        {
            add(
                "tx",
                if tx == TxEnd::Commit {
                    "commit"
                } else {
                    "rollback"
                },
            );
        }
        if let Some(strict) = preferences.strict {
            add("handling", if strict { "strict" } else { "lenient" });
        }
        if let Some(zone) = self.incoming.timezone {
            add("timezone", zone);
        }
        if let Some(max) = preferences.strict_max_affected() {
            add("max-affected", &max.to_string());
        }
    }

    fn shape(facts: &Facts) -> Shape {
        let reads = !matches!(facts.kind, Kind::Write(_));
        Shape {
            format: if facts.without_body {
                Format::Nothing
            } else {
                facts.media.format
            },
            strip_nulls: facts.media.strip_nulls,
            total: match facts.count.filter(|_| reads) {
                Some(Count::Exact) => Total::All,
                Some(Count::Estimated) => Total::UpTo(facts.max_rows + 1),
                // Nothing can be estimated about a function's result but what is there.
                Some(Count::Planned) if facts.kind != Kind::Read => Total::All,
                Some(Count::Planned) | None => Total::Uncounted,
            },
            location: facts.location.is_some(),
        }
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

    fn transaction(&self, read_only: bool, routine: Option<&Routine>) -> Transaction {
        let config = &self.loaded.config;
        let identity = self.incoming.identity;
        let role = self.loaded.cache.roles.get(&identity.role);
        let request = self.request();
        let mut settings: Vec<Setting> = vec![(
            "search_path".into(),
            search_path(self.schema, &config.extra_search_path),
        )];
        let mut isolation = None;
        let declared = role
            .map(|role| role.settings.as_slice())
            .unwrap_or_default()
            .iter()
            .chain(
                routine
                    .map(|routine| routine.settings.as_slice())
                    .unwrap_or_default()
                    .iter()
                    .filter(|(name, _)| {
                        matches!(
                            name.as_str(),
                            "statement_timeout"
                                | "plan_filter.statement_cost_limit"
                                | "default_transaction_isolation"
                        )
                    }),
            );
        for (name, value) in declared {
            match name.as_str() {
                "default_transaction_isolation" => isolation = Some(value.to_ascii_lowercase()),
                "search_path" | "role" => {}
                _ => settings.push((name.clone().into(), value.clone())),
            }
        }
        if let Some(zone) = self.incoming.timezone {
            settings.push(("timezone".into(), zone.to_owned()));
        }
        settings.push(("role".into(), identity.role.clone()));
        settings.push(("request.jwt.claims".into(), identity.claims.clone()));
        settings.push(("request.method".into(), request.method.to_string()));
        settings.push(("request.path".into(), request.path.clone()));
        settings.push(("request.headers".into(), request.headers_json()));
        settings.push(("request.cookies".into(), request.cookies_json()));
        let begin = match (isolation.as_deref(), read_only) {
            (Some("serializable"), true) => "begin isolation level serializable read only",
            (Some("serializable"), false) => "begin isolation level serializable",
            (Some("repeatable read"), true) => "begin isolation level repeatable read read only",
            (Some("repeatable read"), false) => "begin isolation level repeatable read",
            (_, true) => "begin read only",
            (_, false) => "begin",
        };
        Transaction {
            begin,
            settings,
            pre_request: config
                .pre_request
                .as_ref()
                .map(|(schema, name)| format!("select {}.{}()", quoted(schema), quoted(name))),
            anonymous: identity.anonymous,
        }
    }
}

/// `"schema", "extra", …`
fn search_path(schema: &str, extra: &[String]) -> String {
    let mut path = quoted(schema);
    for name in extra.iter().filter(|name| *name != schema) {
        path.push_str(", ");
        path.push_str(&quoted(name));
    }
    path
}

fn quoted(name: &str) -> String {
    Sql::default().ident(name).text().to_owned()
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
