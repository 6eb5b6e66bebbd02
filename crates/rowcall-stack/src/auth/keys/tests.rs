//! Keys are kept, tokens are verified and refused, keys are mapped.

use super::*;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("a time")
}

fn part(json: &str) -> String {
    URL_SAFE_NO_PAD.encode(json)
}

#[test]
fn the_example_of_rfc_7515_verifies() {
    let secret =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key =
        DecodingKey::from_secret(&URL_SAFE_NO_PAD.decode(secret).expect("the key of the RFC"));
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let then = Timestamp::from_second(1_300_819_380).expect("a time");
    let verify = |at| Claims::checked(Arc::new(decode(&key, token)?), at);
    let claims = verify(then).expect("a good token");
    assert_eq!(claims.get("iss"), Some(&json!("joe")));
    assert_eq!(claims.expires_at(), Some(1_300_819_380));
    assert_eq!(verify(now()), Err(TokenError::Expired));
}

#[test]
fn the_keys_of_the_official_command_line_are_signed_with_its_secret() {
    let keys = Keys::supabase_cli();
    for (token, role) in [
        (keys.anon_key(), "anon"),
        (keys.service_role_key(), "service_role"),
    ] {
        assert_eq!(
            keys.verify(token, now()).expect("a good token").role(),
            Some(role)
        );
    }
}

#[test]
fn forged_tokens_are_refused() {
    let keys = Keys::generate(now());
    let claims = part(r#"{"role":"service_role"}"#);
    let with = |header: &str| format!("{}.{claims}.{}", part(header), part("signature"));
    for (token, expected) in [
        (with(r#"{"alg":"none"}"#), TokenError::Algorithm),
        (with(r#"{"alg":"HS512"}"#), TokenError::Algorithm),
        (with(r#"{"alg":"RS256"}"#), TokenError::Algorithm),
        (with(r#"{"alg":"hs256"}"#), TokenError::Algorithm),
        (with(r#"{"alg":"HS256"}"#), TokenError::Signature),
        (with("{}"), TokenError::Malformed),
        (
            format!("{}.{claims}.", part(r#"{"alg":"none"}"#)),
            TokenError::Algorithm,
        ),
        ("..".to_owned(), TokenError::Malformed),
        ("a".to_owned(), TokenError::Parts(1)),
        ("a.b.c.d.e".to_owned(), TokenError::Parts(5)),
        (String::new(), TokenError::Empty),
    ] {
        assert_eq!(keys.verify(&token, now()), Err(expected), "{token}");
    }
    // Every single character of a good token matters, but for what base64 does not use of the last one.
    let good = keys.anon_key().to_owned();
    for at in 0..good.len() - 1 {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let bad = String::from_utf8(bytes).expect("ASCII");
        assert!(keys.verify(&bad, now()).is_err(), "{at}");
    }
    let long = format!("{good}{}", "A".repeat(MAX_TOKEN_BYTES));
    assert_eq!(keys.verify(&long, now()), Err(TokenError::Malformed));
}

#[test]
fn times_count_with_a_skew() {
    let keys = Keys::generate(now());
    let at = |seconds: i64| now().as_second() + seconds;
    for (claims, expected) in [
        (json!({"exp": at(-30)}), Ok(())),
        (json!({"exp": at(-31)}), Err(TokenError::Expired)),
        (
            json!({"exp": at(-31).to_string().parse::<f64>().expect("a number")}),
            Err(TokenError::Expired),
        ),
        (json!({"nbf": at(30)}), Ok(())),
        (json!({"nbf": at(31)}), Err(TokenError::NotYetValid)),
        (json!({"iat": at(31)}), Err(TokenError::IssuedAtFuture)),
        (json!({"exp": i64::MAX}), Ok(())),
        (json!({"exp": i64::MIN}), Err(TokenError::Expired)),
        (json!({"exp": null}), Ok(())),
        (
            json!({"exp": "x"}),
            Err(TokenError::ClaimType(
                "The JWT 'exp' claim must be a number",
            )),
        ),
        (json!({"aud": ["a", "b"]}), Ok(())),
        (
            json!({"aud": [1]}),
            Err(TokenError::ClaimType(
                "The JWT 'aud' claim must be a string or an array of strings",
            )),
        ),
    ] {
        let verified = keys.verify(&keys.sign(&claims), now()).map(drop);
        assert_eq!(verified, expected, "{claims}");
    }
}

#[test]
fn headers_are_mapped_as_the_gateway_does() {
    let keys = Keys::generate(now());
    let bearer = |token: &str| format!("Bearer {token}");
    let (anon, service) = (Some(keys.anon_key()), Some(keys.service_role_key()));
    for (authorization, apikey, expected) in [
        (None, None, None),
        (None, Some(keys.publishable_key()), anon),
        (None, Some(keys.secret_key()), service),
        (
            Some(bearer(keys.publishable_key())),
            Some(keys.publishable_key()),
            anon,
        ),
        (
            Some(bearer(keys.secret_key())),
            Some(keys.secret_key()),
            service,
        ),
        (
            Some(bearer(keys.secret_key())),
            Some(keys.publishable_key()),
            anon,
        ),
        (Some(bearer("sb_secret_wrong")), None, None),
        (
            Some(bearer("user.jwt.here")),
            Some(keys.secret_key()),
            Some("user.jwt.here"),
        ),
        (
            Some("bEARER user.jwt.here".to_owned()),
            None,
            Some("user.jwt.here"),
        ),
        (Some("Bearer ".to_owned()), None, Some("")),
        (Some("Bearer".to_owned()), None, Some("")),
        (Some("Basic abc".to_owned()), Some(keys.secret_key()), None),
        // A bare token in apikey is no bearer.
        (None, service, None),
    ] {
        assert_eq!(
            keys.bearer(authorization.as_deref(), apikey),
            expected,
            "{authorization:?} {apikey:?}"
        );
    }
    assert_eq!(
        keys.token_for_api_key(keys.secret_key()),
        keys.service_role_key()
    );
    assert_eq!(keys.token_for_api_key("other"), "other");
    assert!(keys.accepts_api_key(keys.anon_key(), now()));
    assert!(!keys.accepts_api_key("other", now()));
}

#[test]
fn keys_are_made_once_and_kept_private() {
    let dir = tempfile::tempdir().expect("a folder");
    let made = Keys::load_or_create(dir.path(), now()).expect("keys");
    let again = Keys::load_or_create(dir.path(), now()).expect("keys");
    assert_eq!(
        (made.jwt_secret(), made.secret_key()),
        (again.jwt_secret(), again.secret_key())
    );
    let other = Keys::generate(now());
    assert_ne!(made.jwt_secret(), other.jwt_secret());
    assert!(
        other.publishable_key().starts_with("sb_publishable_")
            && other.secret_key().starts_with("sb_secret_")
    );
    assert_eq!(
        other.publishable_key().len(),
        "sb_publishable_".len() + 22 + 1 + 8
    );
    let path = dir.path().join(FILE);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let bits = |path: &Path| {
            std::fs::metadata(path)
                .expect("metadata")
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(
            (bits(&path), bits(path.parent().expect("a folder"))),
            (0o600, 0o700)
        );
    }
    std::fs::write(&path, "{").expect("written");
    assert!(matches!(
        Keys::load_or_create(dir.path(), now()),
        Err(KeysError::Damaged { .. })
    ));
    assert!(
        !format!("{made:?}").contains(made.jwt_secret()),
        "secrets are not printed"
    );
}

#[test]
fn many_who_start_at_once_agree() {
    let dir = tempfile::tempdir().expect("a folder");
    let secrets: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    Keys::load_or_create(dir.path(), now())
                        .expect("keys")
                        .jwt_secret()
                        .to_owned()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
}
