//! What the server says about itself, and what it does not do.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::json;

use super::error::{AuthError, json_answer};
use super::{Server, answered};

/// GET /settings
pub(super) async fn settings(State(server): Server) -> Response<Body> {
    let config = &server.config;
    let body = json!({
        "external": {
            "anonymous_users": config.anonymous, "apple": false, "azure": false, "bitbucket": false, "discord": false,
            "facebook": false, "figma": false, "fly": false, "github": false, "gitlab": false, "google": false,
            "keycloak": false, "kakao": false, "linkedin": false, "linkedin_oidc": false, "notion": false, "spotify": false,
            "slack": false, "slack_oidc": false, "workos": false, "twitch": false, "twitter": false, "email": true,
            "phone": false, "zoom": false
        },
        "disable_signup": !config.signup,
        "mailer_autoconfirm": config.autoconfirm,
        "phone_autoconfirm": false,
        "sms_provider": "",
        "saml_enabled": false
    });
    json_answer(StatusCode::OK, &body)
}

/// GET /health
pub(super) async fn health() -> Response<Body> {
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "name": "GoTrue",
        "description": "GoTrue is a user registration and authentication API",
    });
    json_answer(StatusCode::OK, &body)
}

/// GET /.well-known/jwks.json: a shared secret is not shown.
pub(super) async fn jwks() -> Response<Body> {
    json_answer(StatusCode::OK, &json!({"keys": []}))
}

/// GET /.well-known/openid-configuration
pub(super) async fn openid(State(server): Server) -> Response<Body> {
    let issuer = &server.issuer;
    let body = json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "userinfo_endpoint": format!("{issuer}/user"),
        "token_endpoint": format!("{issuer}/token"),
        "response_types_supported": ["token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["HS256"],
    });
    json_answer(StatusCode::OK, &body)
}

/// Ways to sign in that need mails, telephones or other providers.
pub(super) async fn not_here(request: Request) -> Response<Body> {
    let path = request.uri().path().trim_matches('/').to_owned();
    answered(request, async |_| {
        Err(match path.split('/').next().unwrap_or_default() {
            "otp" | "magiclink" => AuthError::unprocessable(
                "otp_disabled",
                "Signing in by one-time codes needs mails, which are not sent here",
            ),
            "recover" | "resend" | "verify" | "invite" | "reauthenticate" => {
                AuthError::unprocessable(
                    "email_provider_disabled",
                    "No mails are sent here; use a password, or let an admin help",
                )
            }
            "factors" => {
                AuthError::unprocessable("mfa_totp_enroll_not_enabled", "MFA enroll is disabled")
            }
            "authorize" | "callback" | "sso" | "saml" => AuthError::bad(
                "provider_disabled",
                "Unsupported provider: provider is not enabled",
            ),
            _ => AuthError::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "This route is not part of the auth server",
            ),
        })
    })
    .await
}
