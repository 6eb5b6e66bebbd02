//! The server: takes requests, answers them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use rowcall_core::Clock;
use rowcall_postgres::Server;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{Outcome, answer};
use super::config::RestConfig;
use super::error::RestError;
use super::identity::Identity;
use super::job::{Facts, Incoming, Job, plan, schema};
use super::limits::{FIRST_LOAD_WAIT, MAX_BODY_BYTES};
use super::media::PlanOptions;
use super::pool::{Seen, open};
use super::prefer::Count;
use super::request::{Resource, RestRequest};
use super::run::{Runner, Transaction};
use super::schema::{Name, Volatility};
use super::sql::Sql;
use super::watch::{Loaded, Schema, keeper};
use crate::auth::Keys;

/// What the REST server needs.
#[derive(Debug)]
pub struct RestOptions {
    /// The database, as a superuser, the authenticator, or a member of the API roles.
    pub database: Server,
    /// The keys that tokens are checked with.
    pub keys: Keys,
    /// The clock that tokens are checked against.
    pub clock: Arc<dyn Clock>,
    /// Behaviour.
    pub config: RestConfig,
    /// The most connections to open, besides the one that watches the schema.
    pub connections: usize,
}

/// A running REST server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rest {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    runner: Runner,
    schema: Schema,
    keys: Keys,
    clock: Arc<dyn Clock>,
    timezones: OnceCell<HashSet<String>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Rest {
    /// Starts the server's tasks. Requests before the first load of the schema wait for it.
    pub fn start(options: RestOptions) -> Self {
        let generation = Arc::new(AtomicU64::new(0));
        let (keeper, schema) = keeper(
            options.database.clone(),
            options.config,
            Arc::clone(&generation),
        );
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(keeper.run(stop.clone()));
        tasks.close();
        Self {
            inner: Arc::new(Inner {
                runner: Runner {
                    pool: open(options.database, options.connections, generation),
                    seen: Seen::default(),
                },
                schema,
                keys: options.keys,
                clock: options.clock,
                timezones: OnceCell::new(),
                stop,
                tasks,
            }),
        }
    }

    /// Waits until the schema was read once; false when that takes longer than `wait`.
    pub async fn ready(&self, wait: Duration) -> bool {
        self.inner.schema.get(wait).await.is_some()
    }

    /// Why the schema could not be read last, if it could not.
    pub fn trouble(&self) -> Option<String> {
        self.inner.schema.trouble()
    }

    /// Stops the tasks and closes the connections that are not in use.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.runner.pool.close();
        self.inner.tasks.wait().await;
    }

    /// Answers a request whose path begins with a prefix of `prefix` bytes, such as `/rest/v1`, and `/` or nothing.
    pub async fn answer(&self, request: Request<Body>, prefix: usize) -> Response<Body> {
        match self.inner.serve(request, prefix).await {
            Ok(answer) => answer,
            Err(error) => error.into_answer(),
        }
    }
}

impl Inner {
    async fn serve(
        &self,
        request: Request<Body>,
        prefix: usize,
    ) -> Result<Response<Body>, RestError> {
        let (parts, body) = request.into_parts();
        let head = RestRequest::read(parts, prefix)?;
        let claims = self
            .keys
            .bearer(head.header("authorization"), head.header("apikey"))
            .map(|token| self.keys.verify(token, self.clock.now()));
        let mut loaded = self
            .schema
            .get(FIRST_LOAD_WAIT)
            .await
            .ok_or_else(RestError::no_schema_cache)?;
        let identity = Identity::of(claims, &loaded.config, &loaded.cache)?;
        if head.resource == Resource::Root {
            return Err(RestError::not_implemented(
                "The OpenAPI description of the schema",
            ));
        }
        if head.method == Method::OPTIONS {
            return options(&head, &loaded);
        }
        let body = read_body(&head, body).await?;
        let timezone = self.timezone(&head).await?;
        let incoming = Incoming {
            request: &head,
            body: &body,
            identity: &identity,
            timezone: timezone.as_deref(),
        };
        let job = match plan(&loaded, &incoming) {
            // What is missing may be new: look again, once, at the schema as it is now.
            Err(error) if is_miss(&error) => match self.schema.reload().await {
                Some(newer) => {
                    loaded = newer;
                    plan(&loaded, &incoming)?
                }
                None => return Err(error),
            },
            planned => planned?,
        };
        drop(loaded);
        match job.explain {
            Some(options) => self.explain(&job, options).await,
            None => self.run(job).await,
        }
    }

    async fn run(&self, job: Job) -> Result<Response<Body>, RestError> {
        let Job {
            main,
            estimate,
            transaction,
            facts,
            ..
        } = job;
        let mut outcome = if facts.decides() {
            self.runner
                .decided(&transaction, &main, |rows| {
                    let outcome = Outcome::read(rows)?;
                    let end = outcome.check(&facts)?;
                    Ok((outcome, end))
                })
                .await?
        } else {
            let outcome = Outcome::read(&self.runner.committed(&transaction, &main).await?)?;
            outcome.check(&facts)?;
            outcome
        };
        if let Some(estimate) = estimate {
            self.estimate(&mut outcome, &facts, &transaction, estimate)
                .await?;
        }
        answer(outcome, &facts)
    }

    /// Fills in the planner's estimate of the count, where it is wanted and needed.
    async fn estimate(
        &self,
        outcome: &mut Outcome,
        facts: &Facts,
        transaction: &Transaction,
        statement: Sql,
    ) -> Result<(), RestError> {
        let exact = outcome
            .total
            .filter(|_| facts.count == Some(Count::Estimated));
        if exact.is_some_and(|total| total <= facts.max_rows) {
            return Ok(());
        }
        let rows = self
            .runner
            .committed(transaction, &statement.prefixed("explain (format json) "))
            .await?;
        let plan: serde_json::Value = rows.first().ok_or_else(RestError::internal)?.get(0);
        let estimated = plan
            .pointer("/0/Plan/Plan Rows")
            .and_then(serde_json::Value::as_i64)
            .unwrap_or(0);
        outcome.total = Some(estimated.max(exact.unwrap_or(0)));
        Ok(())
    }

    /// Shows the plan of a request instead of running it.
    async fn explain(&self, job: &Job, options: PlanOptions) -> Result<Response<Body>, RestError> {
        let mut words = vec![if options.json {
            "format json"
        } else {
            "format text"
        }];
        for (wanted, word) in [
            (options.analyze, "analyze"),
            (options.verbose, "verbose"),
            (options.settings, "settings"),
            (options.buffers, "buffers"),
            (options.wal, "wal"),
        ] {
            if wanted {
                words.push(word);
            }
        }
        let statement = job
            .main
            .clone()
            .prefixed(&format!("explain ({}) ", words.join(", ")));
        let end = job.facts.end;
        let body = self
            .runner
            .decided(&job.transaction, &statement, |rows| {
                let text = if options.json {
                    rows.first()
                        .map(|row| row.get::<_, serde_json::Value>(0).to_string())
                        .unwrap_or_default()
                } else {
                    rows.iter()
                        .map(|row| row.get::<_, &str>(0))
                        .collect::<Vec<_>>()
                        .join("\n")
                };
                Ok((text, end))
            })
            .await?;
        let mut answer = Response::new(Body::from(body));
        if let Ok(value) = HeaderValue::try_from(job.facts.media.content_type.as_str()) {
            answer.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        Ok(answer)
    }

    /// The time zone preferred, if the database knows it.
    async fn timezone(&self, head: &RestRequest) -> Result<Option<String>, RestError> {
        let Some(wanted) = &head.preferences.timezone else {
            return Ok(None);
        };
        let known = self
            .timezones
            .get_or_try_init(|| async {
                let mut lease = self.runner.lease().await?;
                let rows = lease
                    .connection()
                    .client
                    .query("select name from pg_catalog.pg_timezone_names", &[])
                    .await
                    .map_err(|error| super::sqlstate::from_database(&error, false))?;
                lease.done();
                Ok::<_, RestError>(rows.iter().map(|row| row.get(0)).collect())
            })
            .await?;
        Ok(known.contains(wanted).then(|| wanted.clone()))
    }
}

/// Whether the error names something that is not in the schema cache.
fn is_miss(error: &RestError) -> bool {
    matches!(
        &*error.code,
        "PGRST200" | "PGRST202" | "PGRST204" | "PGRST205"
    )
}

async fn read_body(head: &RestRequest, body: Body) -> Result<axum::body::Bytes, RestError> {
    if !matches!(head.method, Method::POST | Method::PATCH | Method::PUT) {
        return Ok(axum::body::Bytes::new());
    }
    to_bytes(body, MAX_BODY_BYTES)
        .await
        .map_err(|_| RestError::body_too_large(MAX_BODY_BYTES))
}

/// OPTIONS: what can be done with a resource.
fn options(head: &RestRequest, loaded: &Loaded) -> Result<Response<Body>, RestError> {
    let schema = schema(head, &loaded.config)?;
    let mut allowed = vec!["OPTIONS"];
    match &head.resource {
        Resource::Root => allowed.extend(["GET", "HEAD"]),
        Resource::Relation(name) => {
            let name = Name::new(schema, name.as_str());
            let relation = loaded.cache.relations.get(&name);
            let relation = relation.ok_or_else(|| RestError::no_relation(&loaded.cache, &name))?;
            allowed.extend(["GET", "HEAD"]);
            if relation.can_insert() {
                allowed.push("POST");
            }
            if relation.can_insert() && relation.can_update() && !relation.primary_key.is_empty() {
                allowed.push("PUT");
            }
            if relation.can_update() {
                allowed.push("PATCH");
            }
            if relation.can_delete() {
                allowed.push("DELETE");
            }
        }
        Resource::Function(name) => {
            let name = Name::new(schema, name.as_str());
            let volatile = loaded.cache.routines.get(&name).is_none_or(|overloads| {
                overloads
                    .iter()
                    .any(|routine| routine.volatility == Volatility::Volatile)
            });
            if !volatile {
                allowed.extend(["GET", "HEAD"]);
            }
            allowed.push("POST");
        }
    }
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(allowed.join(",")) {
        headers.insert(header::ALLOW, value);
    }
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::OK;
    *answer.headers_mut() = headers;
    Ok(answer)
}
