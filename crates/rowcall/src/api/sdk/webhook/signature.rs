//! `x-rtx-contract-signature`: checked where the app's manifest gives its program a secret and tells it to sign.

use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, Mac as _};
use rowcall_core::{App, AppId};
use sha2::Sha256;

use super::{Envelope, canonical};
use crate::api::{error::ApiError, identity::digest, state::Api};

/// The header.
const HEADER: &str = "x-rtx-contract-signature";

/// The variables that the SDKs read.
const SECRET: &str = "RTX_CONTRACT_CALLBACK_SECRET";
const SIGN: &str = "RTX_CONTRACT_SIGN_CALLBACKS";

/// Refuses an event that should be signed and is not, or wrongly.
pub(super) async fn check(
    api: &Api,
    app: Option<AppId>,
    headers: &HeaderMap,
    envelope: &Envelope,
) -> Result<(), ApiError> {
    let Some(app) = app else { return Ok(()) };
    let row = api.store(move |store| store.app(&app)).await?;
    let Some(secret) = row
        .and_then(|row| row.parse().ok())
        .and_then(|app| secret(&app))
    else {
        return Ok(());
    };
    let given = headers
        .get(HEADER)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if is_genuine(&secret, given, envelope) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNAUTHORIZED,
        "INVALID_SIGNATURE",
        "The event's signature is missing or wrong",
    ))
}

/// The secret of an app that signs by default.
fn secret(app: &App) -> Option<String> {
    let env = &app.command.as_ref()?.env;
    let signs = env
        .get(SIGN)
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    env.get(SECRET)
        .filter(|secret| signs && !secret.is_empty())
        .cloned()
}

fn is_genuine(secret: &str, given: &str, envelope: &Envelope) -> bool {
    let Some(given) = given
        .strip_prefix("sha256=")
        .and_then(|given| hex::decode(given).ok())
    else {
        return false;
    };
    let Some(signed) = canonical::read(&envelope.raw) else {
        return false;
    };
    signed.texts.iter().any(|text| {
        let message = [
            envelope.event_id.as_deref().unwrap_or_default(),
            envelope.event.name(),
            &signed.task,
            envelope.attempt_id.as_deref().unwrap_or_default(),
            &signed.timestamp,
            &hex::encode(digest(text)),
        ]
        .join(".");
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(message.as_bytes());
        mac.verify_slice(&given).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;

    use super::*;
    use crate::api::body::Fields;

    fn envelope(body: &'static str) -> Envelope {
        let fields = Fields::read(Bytes::from_static(body.as_bytes())).unwrap();
        Envelope::read(fields, &HeaderMap::new()).unwrap()
    }

    /// The check values of the published contract.
    #[test]
    fn the_published_values_are_genuine() {
        let started = r#"{"event":"task.started","event_id":"e-1","attempt_id":"run-2","payload":{"task_uuid":"bd5e2a1d-5c74-4c77-a201-750269809f49","machine_id":"m1","timestamp":"2026-01-01T00:00:00.000Z","attempt_id":"run-2"}}"#;
        let script = r#"{"event":"task.completed","event_id":"e-1","attempt_id":1,"payload":{"task_uuid":"11111111-1111-4111-8111-111111111111","timestamp":"2026-01-01T00:00:00.000Z","result":{"b":1,"a":"é"}}}"#;
        for (body, signature) in [
            (
                started,
                "c31bd1d98bbc6003c25b5e9ee9a1e9d360050096427e903453e8eea95f54bfac",
            ),
            (
                script,
                "c2038c2119357205c190c817d8da42b85b31b8de8341c3e714ed4201798b57cd",
            ),
            (
                script,
                "e2595a82d07fe5c05a977d40a86ad7a916376fd752d4f30ad10c87461bdf4c01",
            ),
        ] {
            let given = format!("sha256={signature}");
            assert!(is_genuine("s3cret", &given, &envelope(body)), "{signature}");
            assert!(!is_genuine("other", &given, &envelope(body)));
            assert!(!is_genuine("s3cret", signature, &envelope(body)));
        }
    }

    #[test]
    fn only_apps_that_sign_have_a_secret() {
        let app = |env: &str| {
            App::parse(
                &format!(r#"{{"name":"x","config":{{"command":"c","env":{env}}}}}"#),
                None,
            )
            .unwrap()
        };
        assert_eq!(
            secret(&app(r#"{"RTX_CONTRACT_CALLBACK_SECRET":"s"}"#)),
            None
        );
        assert_eq!(
            secret(&app(
                r#"{"RTX_CONTRACT_CALLBACK_SECRET":"s","RTX_CONTRACT_SIGN_CALLBACKS":"True"}"#
            )),
            Some("s".to_owned())
        );
    }
}
