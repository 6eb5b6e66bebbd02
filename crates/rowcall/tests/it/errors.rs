//! Error codes: each has a page and every page a code, and people see both.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Output,
};

use clap::CommandFactory as _;
use rowcall::{cli::Cli, exit::pages};
use rowcall_stack::testing::scratch_dir;

use crate::support::{command, run};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All Rust files of all crates' `src`, as texts.
fn sources() -> Vec<String> {
    let mut texts = Vec::new();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(repository().join("crates"))
        .expect("the sources can be read")
        .map(|entry| entry.expect("the sources can be read").path().join("src"))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the sources can be read") {
            let path = entry.expect("the sources can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                texts.push(std::fs::read_to_string(path).expect("the sources can be read"));
            }
        }
    }
    texts
}

/// Every literal in the body of a `fn code`: those functions are nothing but the list of an error's codes.
fn codes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in sources() {
        for rest in text
            .replace("code(&self)", "code(self)")
            .split("fn code(self) -> &'static str {")
            .skip(1)
        {
            let body = rest.split("\n    }").next().unwrap_or_default();
            found.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let embedded: BTreeSet<String> = pages::ALL.iter().map(|page| page.code.to_owned()).collect();
    assert_eq!(embedded.len(), pages::ALL.len(), "a page is embedded twice");
    assert!(embedded.len() > 50, "the sources were not read");
    assert_eq!(codes(), embedded);
    let files: BTreeSet<String> = std::fs::read_dir(repository().join("docs/errors"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted: BTreeSet<String> = embedded.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(files, wanted);
}

#[test]
fn pages_say_what_why_and_what_to_do() {
    for page in pages::ALL {
        let heading = format!("# {}: ", page.code);
        assert!(page.text.starts_with(&heading), "{}", page.code);
        assert!(!page.title().is_empty(), "{}", page.code);
        for part in ["\n## Why\n\n- ", "\n## What to do\n\n- "] {
            assert!(page.text.contains(part), "{}: {part:?}", page.code);
        }
    }
}

/// A page that names a command or an option that is gone sends people the wrong way.
#[test]
fn commands_in_pages_exist() {
    let cli = Cli::command();
    for page in pages::ALL {
        for quoted in page.text.split('`').skip(1).step_by(2) {
            let words: Vec<&str> = quoted.split_whitespace().collect();
            let Some((&"rowcall", words)) = words.split_first() else {
                continue;
            };
            let mut here = &cli;
            for word in words {
                if let Some(option) = word.strip_prefix("--") {
                    let known = |command: &clap::Command| {
                        command
                            .get_arguments()
                            .any(|argument| argument.get_long() == Some(option))
                    };
                    assert!(
                        known(here) || known(&cli) || option == "help",
                        "{}: {quoted}",
                        page.code
                    );
                } else if let Some(next) = here.find_subcommand(word) {
                    here = next;
                }
            }
            let named = words.first().is_none_or(|word| word.starts_with("--"))
                || words[0] == "COMMAND"
                || here.get_name() != cli.get_name();
            assert!(named, "{}: {quoted}", page.code);
        }
    }
}

/// The local API's codes are listed in its own document.
#[test]
fn codes_of_the_local_api_are_documented() {
    let document = std::fs::read_to_string(repository().join("docs/http-api.md")).unwrap();
    let mut seen = 0;
    for text in sources() {
        for head in ["ApiError::new(", "ApiError::unavailable("] {
            for call in text.split(head).skip(1) {
                let code = call
                    .split(';')
                    .next()
                    .and_then(|call| call.split('"').nth(1));
                let Some(code) = code.filter(|code| {
                    let mut letters = code.bytes();
                    code.len() > 2 && letters.all(|byte| byte.is_ascii_uppercase() || byte == b'_')
                }) else {
                    continue;
                };
                seen += 1;
                assert!(
                    document.contains(&format!("`{code}`")),
                    "{code} is not in docs/http-api.md"
                );
            }
        }
    }
    assert!(seen > 10, "only {seen} codes were found in the sources");
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn an_error_leads_to_its_page() {
    let dir = scratch_dir();
    std::fs::write(dir.path().join("app.json"), "{").unwrap();
    let unreachable = "postgres://someone:secret@127.0.0.1:1/nowhere";
    for (arguments, code) in [
        (&["app", "add", "app.json"][..], "app-manifest"),
        (&["app", "show", "nobody"], "not-found"),
        (
            &["--database-url", unreachable, "db", "status"],
            "db-unavailable",
        ),
        (&["--database-url", "nonsense", "db", "status"], "db-url"),
        (
            &["--config", "nowhere.toml", "config", "show"],
            "config-file",
        ),
    ] {
        let output = run(dir.path(), arguments).await;
        let text = stderr(&output);
        assert!(text.starts_with(&format!("error[{code}]: ")), "{text}");
        assert!(
            text.contains(&format!("more: rowcall explain {code}")),
            "{text}"
        );
        let page = run(dir.path(), &["explain", code]).await;
        assert!(page.status.success(), "{}", stderr(&page));
        let page = String::from_utf8(page.stdout).unwrap();
        assert!(page.starts_with(&format!("# {code}: ")), "{page}");
    }
}

#[tokio::test]
async fn a_wrong_argument_leads_to_its_page_too() {
    let dir = scratch_dir();
    for (option, value, code) in [
        ("--filter", "status=is_like.open", "filter"),
        ("--table", "a.b.c", "table-name"),
    ] {
        let output = run(dir.path(), &["setup", "--table", "t", option, value]).await;
        assert_eq!(output.status.code(), Some(2));
        let text = stderr(&output);
        assert!(
            text.contains(&format!("more: rowcall explain {code}")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn explain_lists_and_corrects() {
    let dir = scratch_dir();
    let all = run(dir.path(), &["explain"]).await;
    let text = String::from_utf8(all.stdout).unwrap();
    for page in pages::ALL {
        assert!(text.contains(page.code), "{}", page.code);
    }
    let wrong = run(dir.path(), &["explain", "cluster-lock"]).await;
    assert_eq!(wrong.status.code(), Some(3));
    assert!(
        stderr(&wrong).contains("cluster-locked"),
        "{}",
        stderr(&wrong)
    );
    let copied = run(dir.path(), &["explain", "error[db-busy]:"]).await;
    assert!(copied.status.success());
    let of_the_api = run(dir.path(), &["explain", "LEASE_LOST"]).await;
    assert!(stderr(&of_the_api).contains("docs/http-api.md"));
}

/// Nothing is asked of a configuration that may be what is wrong.
#[tokio::test]
async fn explain_needs_no_configuration() {
    let dir = scratch_dir();
    let output = command(dir.path())
        .args(["--config", "nowhere.toml", "explain", "config-file"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}
