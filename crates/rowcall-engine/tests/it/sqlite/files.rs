//! The file: shared, newer, damaged, foreign, locked, out of reach.

use super::*;

#[test]
fn apps_are_kept_as_given_and_other_connections_notice() {
    let dir = Dir::new();
    let (daemon, cli) = (dir.open(), dir.open());
    let mut watch = daemon.watch_apps().unwrap();
    let name = AppId::new("shop").unwrap();
    let manifest = r#"{"name": "shop",  "display_name": "Shop"}"#;
    assert!(!watch.changed().unwrap());
    cli.put_app(&name, manifest, now()).unwrap();
    assert!(watch.changed().unwrap());
    assert!(!watch.changed().unwrap());
    let app = daemon.app(&name).unwrap().unwrap();
    assert_eq!((app.manifest.as_str(), app.enabled), (manifest, true));
    assert_eq!(app.parse().unwrap().display_name.as_deref(), Some("Shop"));
    assert!(cli.enable_app(&name, false, now()).unwrap());
    assert!(watch.changed().unwrap());
    // A new manifest does not switch it on again.
    cli.put_app(&name, manifest, now()).unwrap();
    assert!(!daemon.apps().unwrap()[0].enabled);
    assert!(cli.remove_app(&name).unwrap() && !cli.remove_app(&name).unwrap());
    assert_eq!(daemon.apps().unwrap(), []);
}

#[tokio::test]
async fn history_is_no_change_of_the_apps() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    let mut watch = store.watch_apps().unwrap();
    write(&writer, vec![started(1, 1)]).await;
    assert!(!watch.changed().unwrap());
}

#[test]
fn a_newer_store_is_refused_unchanged() {
    let dir = Dir::new();
    drop(dir.open());
    let raw = rusqlite::Connection::open(dir.path()).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let before = std::fs::read(dir.path()).unwrap();
    let error = Store::open(&dir.path(), StoreOptions::default()).unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("newer rowcall"));
    assert_eq!(std::fs::read(dir.path()).unwrap(), before);
}

#[test]
fn a_damaged_store_is_refused_unchanged() {
    let dir = Dir::new();
    let store = dir.open();
    for number in 0..200 {
        let name = AppId::new(format!("app{number}")).unwrap();
        store.put_app(&name, &"x".repeat(500), now()).unwrap();
    }
    drop(store);
    let mut bytes = std::fs::read(dir.path()).unwrap();
    // The first page stays; everything behind it is noise.
    for byte in &mut bytes[4_096..] {
        *byte = 0x5a;
    }
    std::fs::write(dir.path(), &bytes).unwrap();
    let failure = match Store::open(&dir.path(), StoreOptions::default()) {
        Ok(store) => store.apps().unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(failure, StoreError::Corrupt { .. }), "{failure}");
    assert!(failure.to_string().contains("move it away"));

    std::fs::write(
        dir.path(),
        b"this is no database, but it is long enough to be looked at",
    )
    .unwrap();
    let error = Store::open(&dir.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(
        std::fs::read(dir.path())
            .unwrap()
            .starts_with(b"this is no database")
    );
}

#[test]
fn a_database_of_another_program_is_refused_unchanged() {
    let dir = Dir::new();
    let raw = rusqlite::Connection::open(dir.path()).unwrap();
    raw.execute_batch("create table bookmarks (url text)")
        .unwrap();
    drop(raw);
    let error = Store::open(&dir.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn a_locked_store_says_so() {
    let dir = Dir::new();
    drop(dir.open());
    let raw = rusqlite::Connection::open(dir.path()).unwrap();
    raw.execute_batch("begin immediate").unwrap();
    let patient = StoreOptions {
        busy_timeout: Duration::from_millis(20),
        ..StoreOptions::default()
    };
    let store = Store::open(&dir.path(), patient).unwrap();
    let error = store
        .put_app(&AppId::new("a").unwrap(), "{}", now())
        .unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    raw.execute_batch("rollback").unwrap();
    store
        .put_app(&AppId::new("a").unwrap(), "{}", now())
        .unwrap();
}

#[test]
fn a_store_that_cannot_be_reached_says_where() {
    let dir = Dir::new();
    let path = dir.dir.path().join("missing").join("rowcall.db");
    let error = Store::open(&path, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Inaccessible { .. }), "{error}");
    assert!(error.to_string().contains("missing"));
}

#[cfg(unix)]
#[test]
fn the_file_belongs_to_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = Dir::new();
    drop(dir.open());
    let mode = std::fs::metadata(dir.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn two_processes_may_open_a_new_store_at_once() {
    let dir = Dir::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| dir.open().apps().unwrap());
        }
    });
}
