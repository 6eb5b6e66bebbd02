//! Programs that cannot be started: each says what is wrong and what to do.

use std::{fs, os::unix::fs::PermissionsExt};

use rowcall_core::{AgentErrorKind, Runtime};

use crate::support::{Place, command};

#[tokio::test]
async fn what_is_missing_is_named() {
    let place = Place::new();
    let data = place.file("data.txt", "no program");
    let binary = place.file("binary", "\x7fELF nonsense");
    let orphan = place.file("orphan.sh", "#!/no/such/interpreter\n");
    for file in [&binary, &orphan] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut elsewhere = command(Runtime::Custom, Some("sh"), &[]);
    elsewhere.working_dir = Some(place.path("nowhere"));
    let custom = |program: &str| command(Runtime::Custom, Some(program), &[]);
    let mut hidden = command(Runtime::Python, None, &["app.py"]);
    hidden.env.insert("PATH".to_owned(), "/nowhere".to_owned());
    for (command, expected) in [
        (
            custom("no-such-program"),
            "no-such-program not found on PATH: install it",
        ),
        (
            custom("/no/such/program"),
            "/no/such/program does not exist",
        ),
        (
            custom(data.to_str().unwrap()),
            "is not executable: run chmod +x",
        ),
        (
            custom(place.dir.path().to_str().unwrap()),
            "it is a directory",
        ),
        (
            custom(binary.to_str().unwrap()),
            "neither a binary of this machine",
        ),
        (
            custom(orphan.to_str().unwrap()),
            "its first line (#!) names",
        ),
        (elsewhere, "nowhere does not exist: create it"),
        (
            hidden,
            "python3 not found on PATH: install Python 3 or set \"command\"",
        ),
        (command(Runtime::Custom, None, &["x"]), "set \"command\""),
    ] {
        let shown = format!("{command:?}");
        let error = place.run(command).go().await.unwrap_err();
        assert_eq!(error.kind, AgentErrorKind::NotStarted, "{shown}");
        assert!(
            error.message.contains(expected),
            "{shown}\n  said: {}\n  not:  {expected}",
            error.message
        );
    }
    place.close().await;
}

#[tokio::test]
async fn an_environment_that_is_too_large_is_explained() {
    let place = Place::new();
    let mut command = command(Runtime::Custom, Some("sh"), &[]);
    command
        .env
        .insert("HUGE".to_owned(), "x".repeat(200 * 1024));
    let error = place.run(command).go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::NotStarted);
    assert!(error.message.contains("too large"), "{}", error.message);
    place.close().await;
}

#[tokio::test]
async fn nothing_starts_after_shutdown() {
    let place = Place::new();
    place.runners.shutdown().await;
    let run = place.sh("touch ran");
    let error = run.go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::Canceled);
    assert!(!place.path("home/ran").exists());
    place.close().await;
}
