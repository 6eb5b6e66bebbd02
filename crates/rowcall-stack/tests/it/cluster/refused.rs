//! Data directories and machines that cannot be used: a clear error, nothing touched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rowcall_stack::cluster::{ProviderKind, SearchPaths};

use super::{Place, is_root};

/// Every path below a directory with its size.
fn listing(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut all = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next)
            .expect("listed")
            .map(|entry| entry.expect("an entry"))
        {
            let meta = entry.metadata().expect("metadata");
            if meta.is_dir() {
                open.push(entry.path());
            }
            all.push((entry.path(), meta.len()));
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn clusters_of_others() {
    let place = Place::new();
    let foreign = place.data_dir().join("pg/17");
    fs::create_dir_all(&foreign).expect("directories");
    fs::write(foreign.join("PG_VERSION"), "17\n").expect("a file");
    fs::set_permissions(place.data_dir(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let before = listing(&place.data_dir().join("pg"));
    let error = place.start().await.expect_err("it is not ours");
    assert_eq!(error.code(), "cluster-foreign");
    assert!(error.to_string().contains("pass its URL"), "{error}");
    assert_eq!(listing(&place.data_dir().join("pg")), before);
}

#[tokio::test]
async fn other_major_versions() {
    let place = Place::new();
    place.started().await.stop().await;
    let pg_dir = place.pg_dir();
    let right = fs::read_to_string(pg_dir.join("PG_VERSION")).expect("a version");
    for other in ["9.6\n", "99\n"] {
        fs::write(pg_dir.join("PG_VERSION"), other).expect("written");
        let before = listing(&pg_dir);
        let error = place.start().await.expect_err("another version");
        assert_eq!(error.code(), "cluster-wrong-major");
        assert_eq!(listing(&pg_dir), before);
    }
    fs::write(pg_dir.join("PG_VERSION"), right).expect("written");
    place.started().await.stop().await;
}

#[tokio::test]
async fn another_provider_than_it_was_made_with() {
    let mut place = Place::new();
    let cluster = place.started().await;
    let made_with = cluster.info().install.provider;
    cluster.stop().await;
    place.config.provider = Some(match made_with {
        ProviderKind::Installed => ProviderKind::Provisioned,
        ProviderKind::Provisioned => ProviderKind::Installed,
    });
    let error = place.start().await.expect_err("another provider");
    assert_eq!(error.code(), "cluster-provider-mismatch");
}

#[tokio::test]
async fn a_machine_without_postgresql_offline() {
    let mut place = Place::new();
    place.config.search = SearchPaths::default();
    place.config.provider = None;
    place.config.offline = true;
    let error = place.start().await.expect_err("nothing to run");
    assert_eq!(error.code(), "cluster-no-server");
    assert!(error.to_string().contains("--offline"), "{error}");
    assert!(!place.data_dir().join("cluster.json").exists());
    assert!(!place.cache_dir().exists());
}

#[tokio::test]
async fn a_machine_without_postgresql_and_clients() {
    let mut place = Place::new();
    place.config.search = SearchPaths::default();
    place.config.provider = None;
    let error = place.start().await.expect_err("nothing to run");
    assert_eq!(error.code(), "cluster-no-server");
    let text = error.to_string();
    assert!(
        text.contains("uv: not found; pip: not found; npm: not found"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_vanished() {
    let mut place = Place::new();
    let cluster = place.started().await;
    let major = cluster.info().install.version.major;
    cluster.stop().await;
    place.config.search = SearchPaths::default();
    place.config.offline = true;
    if place.cache_dir().exists() {
        // This machine has no PostgreSQL of its own: what was fetched goes.
        fs::remove_dir_all(place.cache_dir()).expect("removed");
    }
    let error = place.start().await.expect_err("its programs are gone");
    assert_eq!(error.code(), "cluster-server-gone");
    assert!(
        error.to_string().contains(&format!("PostgreSQL {major}")),
        "{error}"
    );
}

#[tokio::test]
async fn a_directory_the_servers_user_cannot_reach() {
    if !is_root() {
        // The server runs as ourselves: what we can reach, it can.
        return;
    }
    let top = rowcall_stack::testing::scratch_dir();
    let closed = top.path().join("closed");
    fs::create_dir(&closed).expect("a directory");
    let inner = tempfile::tempdir_in(&closed).expect("a directory");
    fs::set_permissions(inner.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).expect("chmod");
    let place = Place::inside(inner);
    let error = place.start().await.expect_err("it is closed");
    assert_eq!(error.code(), "cluster-not-traversable");
    let text = error.to_string();
    assert!(
        text.contains(&format!("may not enter {}", closed.display())),
        "{text}"
    );
    let mode = closed.metadata().expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "not changed");
    assert!(!place.data_dir().join("pg").exists());
    assert!(place.top().exists());
}
