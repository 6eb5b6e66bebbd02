//! From a [`Command`] to what is executed, with errors that say what to do.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rowcall_core::{Command, Runtime};

use crate::error::LaunchError;

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) dir: PathBuf,
}

/// The interpreter of a runtime: its names in the order they are tried, the endings of its scripts, and where it comes
/// from.
struct Launcher {
    names: &'static [&'static str],
    script_endings: &'static [&'static str],
    install: &'static str,
}

fn launcher(runtime: Runtime) -> Option<Launcher> {
    let (names, script_endings, install): (&[_], &[_], _) = match runtime {
        Runtime::Python => (&["python3", "python"], &[".py"], "Python 3"),
        Runtime::Node => (
            &["node"],
            &[".js", ".mjs", ".cjs", ".ts"],
            "Node.js (https://nodejs.org)",
        ),
        Runtime::Npx => (&["npx"], &[], "Node.js with npm (https://nodejs.org)"),
        Runtime::Uvx => (&["uvx"], &[], "uv (https://docs.astral.sh/uv)"),
        Runtime::Custom => return None,
    };
    Some(Launcher {
        names,
        script_endings,
        install,
    })
}

/// Finds the program of `command`. Relative paths start at its `working_dir`, or at `home`, which the caller has made.
pub(crate) fn resolve(
    command: &Command,
    path: &OsStr,
    home: &Path,
) -> Result<Program, LaunchError> {
    let dir = working_dir(command, home)?;
    let mut args = command.args.clone();
    let named = command.program.as_deref();
    let Some(launcher) = launcher(command.runtime) else {
        let program = named.ok_or(LaunchError::NoCommand)?;
        let path = locate(program, path, &dir)?;
        return Ok(Program { path, args, dir });
    };
    let is_launcher = named.is_none_or(|named| launcher.names.contains(&named));
    let found = match named {
        Some(named) if !is_launcher => {
            let is_script = launcher
                .script_endings
                .iter()
                .any(|ending| named.ends_with(ending));
            let is_package =
                matches!(command.runtime, Runtime::Npx | Runtime::Uvx) && !named.contains('/');
            if is_script || is_package {
                // `"command": "app.py"` instead of `"args": ["app.py"]`: the interpreter is meant.
                args.insert(0, named.to_owned());
                interpreter(&launcher, None, path)?
            } else {
                locate(named, path, &dir)?
            }
        }
        named => interpreter(&launcher, named, path)?,
    };
    match command.runtime {
        Runtime::Npx => {
            if args.is_empty() {
                return Err(LaunchError::NoArguments {
                    program: "npx",
                    help: "put the package into \"args\"",
                });
            }
            // Nobody is there to answer whether the package may be installed.
            if is_launcher_file(&found, "npx") && !matches!(args[0].as_str(), "-y" | "--yes") {
                args.insert(0, "--yes".to_owned());
            }
        }
        Runtime::Uvx if args.is_empty() => {
            return Err(LaunchError::NoArguments {
                program: "uvx",
                help: "put the package into \"args\"",
            });
        }
        Runtime::Python | Runtime::Node if args.is_empty() && is_launcher => {
            return Err(LaunchError::NoArguments {
                program: launcher.names[0],
                help: "put the script into \"args\"",
            });
        }
        Runtime::Python | Runtime::Node | Runtime::Uvx | Runtime::Custom => {}
    }
    Ok(Program {
        path: found,
        args,
        dir,
    })
}

fn is_launcher_file(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|file| file == name)
}

fn working_dir(command: &Command, home: &Path) -> Result<PathBuf, LaunchError> {
    let dir = match &command.working_dir {
        Some(dir) => home.join(dir),
        None => home.to_owned(),
    };
    let problem = match fs::metadata(&dir) {
        Ok(metadata) if metadata.is_dir() => return Ok(dir),
        Ok(_) => "is not a directory".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "does not exist".to_owned(),
        Err(error) => format!("cannot be used ({error})"),
    };
    Err(LaunchError::WorkingDir { path: dir, problem })
}

/// The first of the runtime's names that is on the path, the configured one before the others.
fn interpreter(
    launcher: &Launcher,
    named: Option<&str>,
    path: &OsStr,
) -> Result<PathBuf, LaunchError> {
    named
        .into_iter()
        .chain(launcher.names.iter().copied())
        .find_map(|name| search(name, path))
        .ok_or_else(|| LaunchError::NotOnPath {
            program: launcher.names[0].to_owned(),
            help: format!("install {} or set \"command\"", launcher.install),
        })
}

/// A program by path (from `dir`), or by name on the search path.
fn locate(program: &str, path: &OsStr, dir: &Path) -> Result<PathBuf, LaunchError> {
    if program.contains('/') {
        let found = dir.join(program);
        return match fs::metadata(&found) {
            Err(_) => Err(LaunchError::NoSuchFile {
                path: found,
                dir: dir.to_owned(),
            }),
            Ok(metadata) if metadata.is_dir() => Err(LaunchError::NotExecutable {
                path: found,
                help: "it is a directory; name the program inside it",
            }),
            Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
                Err(LaunchError::NotExecutable {
                    path: found,
                    help: "run chmod +x on it, or set app_type to its runtime (python, node)",
                })
            }
            Ok(_) => Ok(found),
        };
    }
    search(program, path).ok_or_else(|| LaunchError::NotOnPath {
        program: program.to_owned(),
        help: if dir.join(program).is_file() {
            format!("there is one in working_dir; write \"./{program}\"")
        } else if program.contains(char::is_whitespace) {
            "put the program into \"command\" and the rest into \"args\"".to_owned()
        } else {
            "install it, or give its full path in \"command\"".to_owned()
        },
    })
}

fn search(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| {
            fs::metadata(file).is_ok_and(|metadata| {
                metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
            })
        })
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::fs::OpenOptionsExt};

    use tempfile::TempDir;

    use super::*;

    struct Machine {
        dir: TempDir,
    }

    impl Machine {
        fn with(programs: &[&str]) -> Self {
            let dir = TempDir::new().unwrap();
            for program in programs {
                let file = dir.path().join(program);
                fs::OpenOptions::new()
                    .create(true)
                    .truncate(true)
                    .write(true)
                    .mode(0o755)
                    .open(file)
                    .unwrap();
            }
            Self { dir }
        }

        fn resolve(
            &self,
            runtime: Runtime,
            program: Option<&str>,
            args: &[&str],
        ) -> Result<(String, Vec<String>), String> {
            let command = Command {
                runtime,
                program: program.map(str::to_owned),
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                working_dir: None,
                env: std::collections::BTreeMap::default(),
            };
            let path = OsString::from(self.dir.path());
            resolve(&command, &path, self.dir.path())
                .map(|found| {
                    let file = found.path.strip_prefix(self.dir.path()).unwrap();
                    (file.to_str().unwrap().to_owned(), found.args)
                })
                .map_err(|error| error.to_string())
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "compared with what resolve gives")]
    fn ok(program: &str, args: &[&str]) -> Result<(String, Vec<String>), String> {
        Ok((
            program.to_owned(),
            args.iter().map(|arg| (*arg).to_owned()).collect(),
        ))
    }

    #[test]
    fn python_by_either_name() {
        let only3 = Machine::with(&["python3"]);
        let args = ["app.py"];
        for named in [None, Some("python"), Some("python3"), Some("app.py")] {
            let given: &[&str] = if named == Some("app.py") { &[] } else { &args };
            assert_eq!(
                only3.resolve(Runtime::Python, named, given),
                ok("python3", &args),
                "{named:?}"
            );
        }
        let both = Machine::with(&["python3", "python"]);
        assert_eq!(
            both.resolve(Runtime::Python, Some("python"), &args),
            ok("python", &args)
        );
        let none = Machine::with(&[]);
        assert_eq!(
            none.resolve(Runtime::Python, None, &args).unwrap_err(),
            "python3 not found on PATH: install Python 3 or set \"command\""
        );
    }

    #[test]
    fn npx_and_uvx_take_packages() {
        let machine = Machine::with(&["npx", "uvx"]);
        let npx = |program, args: &[&str]| machine.resolve(Runtime::Npx, program, args);
        let expected = ok("npx", &["--yes", "create-agent", "-v"]);
        assert_eq!(npx(None, &["create-agent", "-v"]), expected);
        assert_eq!(npx(Some("npx"), &["create-agent", "-v"]), expected);
        assert_eq!(npx(Some("create-agent"), &["-v"]), expected);
        assert_eq!(npx(None, &["-y", "x"]), ok("npx", &["-y", "x"]));
        assert!(npx(None, &[]).unwrap_err().contains("package"));
        assert_eq!(
            machine.resolve(Runtime::Uvx, None, &["my-package"]),
            ok("uvx", &["my-package"])
        );
        assert_eq!(
            machine.resolve(Runtime::Uvx, Some("my-package"), &[]),
            ok("uvx", &["my-package"])
        );
        assert!(
            Machine::with(&[])
                .resolve(Runtime::Uvx, None, &["x"])
                .unwrap_err()
                .contains("docs.astral.sh/uv")
        );
    }

    #[test]
    fn custom_programs_by_name_and_path() {
        let machine = Machine::with(&["tool"]);
        let custom = |program| machine.resolve(Runtime::Custom, program, &["a"]);
        assert_eq!(custom(Some("tool")), ok("tool", &["a"]));
        assert_eq!(custom(Some("./tool")), ok("tool", &["a"]));
        assert!(custom(None).unwrap_err().contains("no command"));
        assert!(
            custom(Some("./gone"))
                .unwrap_err()
                .contains("does not exist")
        );
        assert!(custom(Some("tool a")).unwrap_err().contains("\"args\""));
        fs::write(machine.dir.path().join("data"), "x").unwrap();
        assert!(custom(Some("./data")).unwrap_err().contains("chmod +x"));
        assert!(custom(Some("data")).unwrap_err().contains("\"./data\""));
        fs::create_dir(machine.dir.path().join("folder")).unwrap();
        assert!(custom(Some("./folder")).unwrap_err().contains("directory"));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let machine = Machine::with(&["tool"]);
        let command = Command {
            runtime: Runtime::Custom,
            program: Some("tool".to_owned()),
            args: Vec::new(),
            working_dir: Some("nowhere".into()),
            env: std::collections::BTreeMap::default(),
        };
        let error = resolve(&command, machine.dir.path().as_os_str(), machine.dir.path());
        let text = error.unwrap_err().to_string();
        assert!(text.contains("nowhere does not exist"), "{text}");
    }
}
