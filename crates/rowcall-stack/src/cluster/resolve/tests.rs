//! The decision, as a table.

use super::*;

use std::path::{Path, PathBuf};

use crate::cluster::provision::for_platform;
use crate::cluster::version::PgVersion;

fn installed(versions: &[(u16, u16)]) -> Discovery {
    let found = versions.iter().map(|(major, minor)| Install {
        bin_dir: PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")),
        version: PgVersion {
            major: *major,
            minor: *minor,
        },
        build_id: format!("debian-{major}.{minor}"),
        provider: ProviderKind::Installed,
    });
    Discovery {
        found: found.collect(),
        broken: Vec::new(),
    }
}

fn builds(cached: &[&str]) -> Vec<(Pin, Option<Install>)> {
    let pins = for_platform("linux", "x86_64").into_iter();
    pins.map(|pin| {
        let build_id = pin.build_id();
        let install = cached.contains(&build_id.as_str()).then(|| Install {
            bin_dir: PathBuf::from("/cache").join(&build_id),
            version: pin.version,
            build_id,
            provider: ProviderKind::Provisioned,
        });
        (pin, install)
    })
    .collect()
}

fn clients(kinds: &[ClientKind]) -> Vec<Client> {
    let client = |kind: &ClientKind| Client::at(*kind, Path::new("/usr/bin/client"));
    kinds.iter().map(client).collect()
}

fn made(provider: ProviderKind, major: u16, build_id: &str) -> Made {
    Made {
        provider,
        major,
        build_id: build_id.to_owned(),
    }
}

const WHEEL: &str = "wheel-18.6.3";
const NPM: &str = "npm-18.4.0-beta.17";

/// The outcome in one line: `run <build>`, `fetch <client>:<build> … [else <build>]`, or the code
/// of the error.
fn outcome(environment: &Environment) -> String {
    match resolve(environment) {
        Ok(Decision::Run { install, .. }) => format!("run {}", install.build_id),
        Ok(Decision::Fetch {
            attempts,
            otherwise,
            ..
        }) => {
            let attempts: Vec<String> = attempts
                .iter()
                .map(|(client, pin)| format!("{}:{}", client.kind, pin.build_id()))
                .collect();
            let otherwise = otherwise.map(|install| format!(" else {}", install.build_id));
            format!(
                "fetch {}{}",
                attempts.join(" "),
                otherwise.unwrap_or_default()
            )
        }
        Err(error) => error.code().to_owned(),
    }
}

/// Everything a machine can have: all clients, an empty cache, nothing installed.
fn machine() -> Environment {
    Environment {
        builds: builds(&[]),
        clients: clients(&[ClientKind::Uv, ClientKind::Pip, ClientKind::Npm]),
        searched: "PATH".to_owned(),
        ..Environment::default()
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_new_data_directory() {
    let all = format!("fetch uv:{WHEEL} pip:{WHEEL} npm:{NPM}");
    let cases = [
        ("nothing installed", machine(), all.clone()),
        (
            "a supported version is installed",
            Environment {
                installed: installed(&[(17, 2), (15, 18)]),
                ..machine()
            },
            "run debian-17.2".to_owned(),
        ),
        (
            "installed beats the cache",
            Environment {
                installed: installed(&[(15, 18)]),
                builds: builds(&[WHEEL]),
                ..machine()
            },
            "run debian-15.18".to_owned(),
        ),
        (
            "14 only when provisioning is impossible",
            Environment {
                installed: installed(&[(14, 23)]),
                ..machine()
            },
            format!("{all} else debian-14.23"),
        ),
        (
            "14 and no client",
            Environment {
                installed: installed(&[(14, 23)]),
                clients: clients(&[]),
                ..machine()
            },
            "run debian-14.23".to_owned(),
        ),
        (
            "13 is too old",
            Environment {
                installed: installed(&[(13, 9)]),
                clients: clients(&[]),
                ..machine()
            },
            "cluster-no-server".to_owned(),
        ),
        (
            "only npm",
            Environment {
                clients: clients(&[ClientKind::Npm]),
                ..machine()
            },
            format!("fetch npm:{NPM}"),
        ),
        (
            "a cached build saves the download",
            Environment {
                builds: builds(&[NPM]),
                ..machine()
            },
            format!("run {NPM}"),
        ),
        (
            "offline with a cached build",
            Environment {
                builds: builds(&[WHEEL]),
                offline: true,
                ..machine()
            },
            format!("run {WHEEL}"),
        ),
        (
            "offline without one",
            Environment {
                offline: true,
                ..machine()
            },
            "cluster-no-server".to_owned(),
        ),
        (
            "a platform without builds",
            Environment {
                builds: Vec::new(),
                ..machine()
            },
            "cluster-no-server".to_owned(),
        ),
        (
            "--pg provisioned",
            Environment {
                installed: installed(&[(18, 1)]),
                preference: Some(ProviderKind::Provisioned),
                ..machine()
            },
            all,
        ),
        (
            "--pg installed, only 14 there",
            Environment {
                installed: installed(&[(14, 23)]),
                preference: Some(ProviderKind::Installed),
                ..machine()
            },
            "run debian-14.23".to_owned(),
        ),
        (
            "--pg installed, none there",
            Environment {
                builds: builds(&[WHEEL]),
                preference: Some(ProviderKind::Installed),
                ..machine()
            },
            "cluster-no-server".to_owned(),
        ),
    ];
    for (name, environment, expected) in cases {
        assert_eq!(outcome(&environment), expected, "{name}");
    }
}

#[test]
fn an_existing_data_directory() {
    let by_debian = || Some(made(ProviderKind::Installed, 15, "debian-15.17"));
    let by_wheel = || Some(made(ProviderKind::Provisioned, 18, "wheel-18.5.0"));
    let cases = [
        (
            "the same major, not the highest",
            Environment {
                made: by_debian(),
                installed: installed(&[(17, 2), (15, 18)]),
                ..machine()
            },
            "run debian-15.18".to_owned(),
        ),
        (
            "the installed major is gone",
            Environment {
                made: by_debian(),
                installed: installed(&[(17, 2)]),
                ..machine()
            },
            "cluster-server-gone".to_owned(),
        ),
        (
            "the cache is gone: the same package again, not npm's",
            Environment {
                made: by_wheel(),
                installed: installed(&[(18, 1)]),
                builds: builds(&[NPM]),
                ..machine()
            },
            format!("fetch uv:{WHEEL} pip:{WHEEL}"),
        ),
        (
            "cached",
            Environment {
                made: by_wheel(),
                builds: builds(&[WHEEL]),
                offline: true,
                ..machine()
            },
            format!("run {WHEEL}"),
        ),
        (
            "the cache is gone and offline",
            Environment {
                made: by_wheel(),
                offline: true,
                ..machine()
            },
            "cluster-server-gone".to_owned(),
        ),
        (
            "a major that is no longer pinned",
            Environment {
                made: Some(made(ProviderKind::Provisioned, 17, "wheel-17.9.1")),
                ..machine()
            },
            "cluster-server-gone".to_owned(),
        ),
        (
            "another provider was asked for",
            Environment {
                made: by_wheel(),
                installed: installed(&[(18, 1)]),
                preference: Some(ProviderKind::Installed),
                ..machine()
            },
            "cluster-provider-mismatch".to_owned(),
        ),
    ];
    for (name, environment, expected) in cases {
        assert_eq!(outcome(&environment), expected, "{name}");
    }
}

#[test]
fn the_error_names_everything_that_was_tried() {
    let environment = Environment {
        installed: Discovery {
            broken: vec![(PathBuf::from("/opt/pg/bin"), "no libxml2".to_owned())],
            ..installed(&[(13, 9)])
        },
        clients: clients(&[ClientKind::Npm]),
        ..machine()
    };
    let failures = [(ClientKind::Npm, "no route to host".to_owned())];
    let text = unresolved(&environment, &failures).to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "no PostgreSQL to run");
    assert_eq!(lines[1], "  database URL   not set");
    assert_eq!(
        lines[2],
        "  installed      looked in PATH: found 13.9 in /usr/lib/postgresql/13/bin (too old, 14 or \
         newer is needed); /opt/pg/bin does not run: no libxml2"
    );
    assert_eq!(
        lines[3],
        "  provisioning   uv: not found; pip: not found; npm: failed: no route to host"
    );
    assert!(lines[4].starts_with("  help: "), "{text}");
    assert!(lines[4].ends_with("or pass --database-url"), "{text}");
}

#[test]
fn a_vanished_server_is_named_with_its_package() {
    let environment = Environment {
        made: Some(made(ProviderKind::Installed, 15, "debian-15.18")),
        ..machine()
    };
    let text = unresolved(&environment, &[]).to_string();
    assert!(text.contains("PostgreSQL 15 (debian-15.18)"), "{text}");
    assert!(text.contains("postgresql") && text.contains("15"), "{text}");
}

#[test]
fn versions_newer_than_tested_are_said_so() {
    let environment = Environment {
        installed: installed(&[(NEWEST_TESTED_MAJOR + 1, 0)]),
        ..machine()
    };
    let Ok(Decision::Run { why, .. }) = resolve(&environment) else {
        panic!("it is used");
    };
    assert!(why.contains("newer than any version"), "{why}");
}
