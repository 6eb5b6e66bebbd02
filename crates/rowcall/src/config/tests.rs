use std::io::Write as _;

use super::*;

fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(file.path()), env)
}

#[test]
fn the_defaults_are_those_of_the_published_protocol() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.engine.lease().ttl.as_secs(), 300);
    assert_eq!(config.engine.lease().renew_every.as_secs(), 120);
    assert_eq!(config.engine.retry(false).max_attempts, 3);
    assert!(config.engine.retry(false).same_machine.is_none());
    assert!(config.engine.retry(true).same_machine.is_some());
    assert_eq!(
        (config.api.port, config.database.port, config.stack.port),
        (3001, 54322, 54321)
    );
}

#[test]
fn the_environment_beats_the_file() {
    let config = load(
        "[engine]\nlease_ttl = \"10m\"\nmax_attempts = 5\n[database]\nurl = \"postgres://a/b\"",
        &[
            ("ROWCALL__ENGINE__LEASE_TTL", "20s"),
            ("ROWCALL__ENGINE__HEARTBEAT", "5s"),
            ("HOME", "/x"),
        ],
    )
    .unwrap();
    assert_eq!(config.engine.lease_ttl.0.as_secs(), 20);
    assert_eq!(config.engine.max_attempts, 5);
    assert_eq!(config.database.url.as_deref(), Some("postgres://a/b"));
}

#[test]
fn errors_name_the_key_its_origin_and_the_way_out() {
    let said = |text: &str, env: &[(&str, &str)]| load(text, env).unwrap_err().to_string();
    for (text, env, parts) in [
        (
            "[engin]\n",
            &[][..],
            vec!["engin: unknown key; did you mean \"engine\"?"],
        ),
        (
            "[engine]\nlease_tll = \"5m\"",
            &[],
            vec!["engine.lease_tll", "did you mean \"lease_ttl\"?"],
        ),
        (
            "[engine]\nlease_ttl = \"soon\"",
            &[],
            vec!["engine.lease_ttl", "is not a duration", "\"30s\""],
        ),
        (
            "",
            &[("ROWCALL__API__PORT", "x")],
            vec!["environment variable ROWCALL__API__PORT", "api.port"],
        ),
        (
            "",
            &[("ROWCALL__API__PROT", "1")],
            vec![
                "environment variable ROWCALL__API__PROT",
                "did you mean \"port\"?",
            ],
        ),
        (
            "[engine]\nheartbeat = \"4m\"",
            &[],
            vec!["engine.heartbeat", "at most half of engine.lease_ttl"],
        ),
        (
            "[engine]\nmax_attempts = 0",
            &[],
            vec!["engine.max_attempts"],
        ),
        ("a = [", &[], vec!["is not valid TOML"]),
    ] {
        let found = said(text, env);
        for part in parts {
            assert!(
                found.contains(part),
                "{text:?} said {found:?}, which lacks {part:?}"
            );
        }
    }
    let missing =
        Config::load(Some(std::path::Path::new("/nonexistent/rowcall.toml")), []).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("cannot read /nonexistent/rowcall.toml")
    );
}

#[test]
fn spans_print_as_they_are_read() {
    for text in ["250ms", "30s", "5m", "1h 30m"] {
        let span: Span = text.parse().unwrap();
        assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
    }
    assert!("-5s".parse::<Span>().is_err());
}

#[test]
fn the_default_configuration_survives_toml() {
    let text = toml::to_string(&Config::default()).unwrap();
    assert_eq!(load(&text, &[]).unwrap(), Config::default());
}

#[test]
fn the_kind_of_backend_follows_from_what_is_said() {
    for (text, kind) in [
        ("", BackendKind::Postgres),
        (
            "[backend]\nurl = \"https://x.supabase.co\"",
            BackendKind::Supabase,
        ),
        (
            "[backend]\nurl = \"https://x.supabase.co\"\napp_url = \"http://127.0.0.1:8080\"",
            BackendKind::Custom,
        ),
        (
            "[backend]\nkind = \"postgres\"\nurl = \"https://x.supabase.co\"",
            BackendKind::Postgres,
        ),
    ] {
        assert_eq!(load(text, &[]).unwrap().backend.kind(), kind, "{text}");
    }
    let error = load("[backend]\nkind = \"supabase\"", &[]).unwrap_err();
    assert!(error.to_string().contains("backend.url"), "{error}");
}

#[test]
fn keys_are_never_shown() {
    let config = load("", &[("ROWCALL__BACKEND__KEY", "sb_secret_x")]).unwrap();
    assert_eq!(config.backend.key.as_ref().unwrap().expose(), "sb_secret_x");
    for shown in [
        format!("{config:?}"),
        toml::to_string(&config).unwrap(),
        serde_json::to_string(&config).unwrap(),
    ] {
        assert!(!shown.contains("sb_secret_x"), "{shown}");
        assert!(shown.contains("****"));
    }
}
