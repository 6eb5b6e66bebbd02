//! A full disk, on a file system of a few megabytes. Only root can mount one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PATIENCE, Place, connect, is_root, store, stored};

/// A small file system, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` when this process may not mount.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        std::fs::create_dir_all(at).expect("a mount point");
        let options = format!("size={size},mode=755");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "rowcall-test"])
            .arg(at)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(at.to_owned()))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let status = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status();
        assert!(status.expect("mount").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[tokio::test]
async fn a_new_database_that_does_not_fit() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.data_dir(), "20m") else {
        return;
    };
    let error = place.start().await.expect_err("20 MB are too little");
    assert_eq!(error.code(), "cluster-disk-full", "{error}");
    let pg = std::fs::read_dir(place.data_dir().join("pg")).expect("pg/");
    assert_eq!(pg.count(), 0, "nothing half-made is left");

    disk.resize("200m");
    let cluster = place.started().await;
    store(&cluster.url(), 1).await;
    cluster.stop().await;
    place.starts_again_with(1).await;
}

#[tokio::test]
async fn a_disk_that_fills_up_while_it_runs() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.data_dir(), "100m") else {
        return;
    };
    let cluster = place.started().await;
    let url = cluster.url();
    store(&url, 1).await;
    let filling = async {
        let client = connect(&url).await;
        let fill = "create table filler as select repeat('x', 500) || n as text \
                    from generate_series(1, 1000000) n";
        // The server ends under it, or the statement fails: then the WAL comes next.
        let _ = client.batch_execute(fill).await;
        std::fs::write(place.data_dir().join("ballast"), vec![0; 200 << 20]).unwrap_err();
        while client.batch_execute("select pg_switch_wal(); insert into kept values (0) on conflict do nothing; delete from kept where id = 0").await.is_ok() {}
        cluster.wait_failed().await
    };
    let error = tokio::time::timeout(2 * PATIENCE, filling)
        .await
        .expect("in time");
    assert_eq!(error.code(), "cluster-disk-full", "{error}");
    cluster.stop().await;

    std::fs::remove_file(place.data_dir().join("ballast")).expect("removed");
    disk.resize("300m");
    let cluster = place.started().await;
    assert_eq!(
        stored(&cluster.url()).await,
        [1],
        "nothing acknowledged is lost"
    );
    tokio::time::timeout(PATIENCE, cluster.stop())
        .await
        .expect("stops");
}
