//! Who asks: the role and claims of a request.

use super::config::RestConfig;
use super::error::RestError;
use super::schema::SchemaCache;
use crate::auth::{Claims, TokenError};

/// The role to act as, and what `request.jwt.claims` says.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// A role that the authenticator may take on.
    pub role: String,
    /// All claims as JSON.
    pub claims: String,
    /// Nobody logged in.
    pub anonymous: bool,
}

impl Identity {
    /// The identity of a verified token, or of none.
    ///
    /// # Errors
    /// Tokens that do not count, roles that do not exist or that nobody may take on, anonymous requests where those are
    /// off (PGRST302).
    pub(crate) fn of(
        claims: Option<Result<Claims, TokenError>>,
        config: &RestConfig,
        cache: &SchemaCache,
    ) -> Result<Self, RestError> {
        let claims = claims
            .transpose()
            .map_err(|error| RestError::token(&error))?;
        let role = claims
            .as_ref()
            .and_then(Claims::role)
            .unwrap_or(&config.anon_role);
        if role.is_empty() {
            return Err(RestError::anonymous_disabled());
        }
        match cache.roles.get(role) {
            None => return Err(RestError::no_role(role)),
            Some(known) if !known.usable => return Err(RestError::role_not_granted(role)),
            Some(_) => {}
        }
        Ok(Self {
            role: role.to_owned(),
            anonymous: claims.is_none() || role == config.anon_role,
            claims: match &claims {
                Some(claims) => claims.to_json(role),
                None => Claims::of_role(role).to_json(role),
            },
        })
    }
}
