//! Which credential a route wants, as part of its signature.
//!
//! The first argument of every handler is one of the types here, and [`Routes`] takes no other handlers: a route that
//! declares nothing does not compile. What they declare is listed by [`Routes::table`], from which tests are generated.

use std::{convert::Infallible, marker::PhantomData};

use axum::{
    Router,
    extract::FromRequestParts,
    handler::Handler,
    http::{StatusCode, request::Parts},
    routing::{MethodFilter, on},
};

use super::{
    error::ApiError,
    identity::{Caller, bearer, nobody},
    state::Api,
};

/// What a route wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: it works without any credential.
    Open,
    /// The body says who it is.
    Body,
    /// A known app or key.
    Identity,
    /// A known app with this permission, or a key.
    Permission(&'static str),
    /// The session's token, or an administrator's key.
    Operator,
    /// The calendar's own token, or what operators have.
    Feed,
}

/// A type that stands for a rule.
pub(super) trait Declares {
    /// The rule.
    const RULE: Rule;
}

/// A permission of the SDK contract.
pub(super) trait Permission: Send + Sync {
    /// Its name.
    const NAME: &'static str;
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $word:literal),+ $(,)?) => {
        $($(#[$doc])* #[derive(Debug)] pub(crate) enum $name {}
        impl Permission for $name { const NAME: &'static str = $word; })+

        /// Every permission that some route wants.
        pub const PERMISSIONS: &[&str] = &[$($word),+];
    };
}

permissions! {
    /// List agents.
    Agents = "api.agents",
    /// List workspaces.
    Workspaces = "api.workspaces",
    /// List threads.
    Threads = "api.threads",
    /// See tasks.
    TaskStatus = "api.task",
    /// See the contract.
    Contracts = "api.contracts",
    /// Start agents.
    Trigger = "webhook.trigger",
    /// See how the database is reached.
    DatabaseConfig = "database.config",
    /// Read activities.
    ActivitiesRead = "activities.read",
    /// Write activities.
    ActivitiesWrite = "activities.write",
    /// Talk to language models.
    LlmChat = "llm.chat",
    /// Make embeddings.
    LlmEmbed = "llm.embed",
    /// List language models.
    LlmProviders = "llm.providers",
    /// Search vectors.
    VectorsRead = "vectors.read",
    /// Store vectors.
    VectorsWrite = "vectors.write",
}

/// No credential is needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open;

/// The body says who it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct InBody;

/// A known app or key.
#[derive(Clone, Debug)]
pub(super) struct Known(pub Caller);

/// A known app with the permission `P`, or a key.
#[derive(Clone, Debug)]
pub(super) struct Allowed<P>(pub Caller, PhantomData<P>);

/// The operator of this machine.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    /// Who it is, for the log of decisions.
    pub name: String,
}

impl Declares for Open {
    const RULE: Rule = Rule::Open;
}
impl Declares for InBody {
    const RULE: Rule = Rule::Body;
}
impl Declares for Known {
    const RULE: Rule = Rule::Identity;
}
impl<P: Permission> Declares for Allowed<P> {
    const RULE: Rule = Rule::Permission(P::NAME);
}
impl Declares for Operator {
    const RULE: Rule = Rule::Operator;
}

impl<S: Sync> FromRequestParts<S> for Open {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for InBody {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

impl FromRequestParts<Api> for Known {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        api.directory()
            .caller(&parts.headers, None)?
            .map(Self)
            .ok_or_else(nobody)
    }
}

impl<P: Permission> FromRequestParts<Api> for Allowed<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Known(caller) = Known::from_request_parts(parts, api).await?;
        api.permit::<P>(&caller).await?;
        Ok(Self(caller, PhantomData))
    }
}

impl FromRequestParts<Api> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let headers = &parts.headers;
        if let Some(token) = bearer(headers)? {
            if api.session().is_token(token) {
                return Ok(Self {
                    name: "operator".to_owned(),
                });
            }
            return admin(api, token);
        }
        if let Some(key) = headers.get("x-api-key").and_then(|key| key.to_str().ok()) {
            return admin(api, key);
        }
        if api.session().is_cookie(headers) {
            return Ok(Self {
                name: "dashboard".to_owned(),
            });
        }
        Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "MISSING_TOKEN",
            "Send the session's token as Authorization: Bearer; it is in the file session-token of the data directory",
        ))
    }
}

fn admin(api: &Api, key: &str) -> Result<Operator, ApiError> {
    let (_, key) = api.directory().key(key)?;
    if key.admin {
        return Ok(Operator {
            name: format!("key {}", key.name),
        });
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "NOT_ADMIN",
        "This key may use the SDK's routes only. `rowcall key add --admin` makes one that may administer this machine",
    ))
}

/// The arguments of a handler that begins with a rule.
pub(super) trait Declared {
    /// The rule.
    const RULE: Rule;
}

macro_rules! declared {
    ($($more:ident),*) => {
        impl<M, A: Declares, $($more),*> Declared for (M, A, $($more,)*) {
            const RULE: Rule = A::RULE;
        }
    };
}
declared!();
declared!(B);
declared!(B, C);
declared!(B, C, D);
declared!(B, C, D, E);
declared!(B, C, D, E, F);

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with `{parameters}`.
    pub path: &'static str,
    /// What it wants.
    pub rule: Rule,
}

/// Routes under construction.
#[derive(Debug, Default)]
pub(super) struct Routes {
    router: Router<Api>,
    table: Vec<Route>,
}

macro_rules! methods {
    ($($name:ident = $filter:ident),+) => {
        $(
            #[doc = concat!("Adds a ", stringify!($filter), " route.")]
            #[must_use]
            pub(crate) fn $name<H, T>(self, path: &'static str, handler: H) -> Self
            where
                H: Handler<T, Api>,
                T: Declared + 'static,
            {
                self.add(MethodFilter::$filter, stringify!($filter), path, handler)
            }
        )+
    };
}

impl Routes {
    methods!(
        get = GET,
        post = POST,
        put = PUT,
        patch = PATCH,
        delete = DELETE
    );

    fn add<H, T>(
        mut self,
        filter: MethodFilter,
        method: &'static str,
        path: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: Declared + 'static,
    {
        self.table.push(Route {
            method,
            path,
            rule: T::RULE,
        });
        self.router = self.router.route(path, on(filter, handler));
        self
    }

    /// Adds the routes of another part.
    #[must_use]
    pub(super) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.table.extend(other.table);
        self
    }

    /// What was declared.
    pub(super) fn table(&self) -> &[Route] {
        &self.table
    }

    pub(super) fn into_router(self) -> Router<Api> {
        self.router
    }
}
