//! The dependency direction of the house (ARCHITECTURE.md), held against `cargo metadata`.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may depend on whom inside the workspace. An edge that is not here needs a reason and a line in ARCHITECTURE.md.
const ALLOWED: &[(&str, &[&str])] = &[
    ("rowcall-core", &[]),
    ("rowcall-postgres", &[]),
    ("rowcall-realtime", &["rowcall-core"]),
    ("rowcall-supervisor", &["rowcall-core"]),
    ("rowcall-llm", &["rowcall-core"]),
    ("rowcall-engine", &["rowcall-core"]),
    (
        "rowcall-backend",
        &["rowcall-core", "rowcall-postgres", "rowcall-realtime"],
    ),
    (
        "rowcall-stack",
        &["rowcall-core", "rowcall-postgres", "rowcall-realtime"],
    ),
    (
        "rowcall",
        &[
            "rowcall-core",
            "rowcall-realtime",
            "rowcall-supervisor",
            "rowcall-llm",
            "rowcall-engine",
            "rowcall-backend",
            "rowcall-stack",
        ],
    ),
    (
        "rowcall-bench",
        &[
            "rowcall-core",
            "rowcall-realtime",
            "rowcall-engine",
            "rowcall-backend",
            "rowcall-stack",
        ],
    ),
];

/// Crates that read time, the network or the environment; the pure crate has none of them.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio-postgres",
    "reqwest",
    "rusqlite",
    "axum",
    "nix",
    "rand",
];

#[test]
fn crates_depend_only_downwards() {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata runs");
    let members: BTreeSet<&str> = metadata
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut seen = 0;
    for package in &metadata.packages {
        let Some((_, allowed)) = ALLOWED
            .iter()
            .find(|(name, _)| *name == package.name.as_str())
        else {
            assert!(
                !package.name.starts_with("rowcall"),
                "{} is missing in the table of edges",
                package.name
            );
            continue;
        };
        seen += 1;
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| d.kind == DependencyKind::Normal)
        {
            let name = dependency.name.as_str();
            assert!(
                !members.contains(name) || allowed.contains(&name),
                "{} must not depend on {name}",
                package.name
            );
            assert!(
                package.name.as_str() != "rowcall-core" || !IMPURE.contains(&name),
                "rowcall-core is pure and must not depend on {name}"
            );
        }
    }
    assert!(seen >= 6, "the table of edges matched only {seen} crates");
}
