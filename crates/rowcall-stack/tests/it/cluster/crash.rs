//! The server ends by itself.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use rowcall_stack::cluster::{ClusterEvent, Phase};

use super::{PATIENCE, Place, find_postmaster, phase_is, postmaster, processes_in, store, stored};

/// How often a server that others start again is looked at.
const LOOK: Duration = Duration::from_millis(5);

#[tokio::test]
async fn a_crashed_server_is_started_again_with_its_data_and_port() {
    let place = Place::new();
    let cluster = place.started().await;
    let url = cluster.url();
    store(&url, 1).await;
    let before = postmaster(&place.pg_dir());

    kill(before, Signal::SIGKILL).expect("SIGKILL");
    // The phases in between may pass unseen: another server is there once they have.
    let pg_dir = place.pg_dir();
    super::eventually("another server", || {
        find_postmaster(&pg_dir).is_some_and(|now| now != before)
    });
    phase_is(&cluster, |phase| matches!(phase, Phase::Ready)).await;

    assert_eq!(stored(&url).await, [1], "an acknowledged commit survives");
    let told = place.events.lock().clone();
    assert!(
        told.iter()
            .any(|event| matches!(event, ClusterEvent::Restarting { crashes: 1, .. })),
        "{told:?}"
    );
    cluster.stop().await;
    place.starts_again_with(1).await;
}

#[tokio::test]
async fn a_server_that_keeps_crashing_is_given_up() {
    let place = Place::new();
    let cluster = place.started().await;
    let pg_dir = place.pg_dir();
    let mut last = None;
    let failed = tokio::time::timeout(2 * PATIENCE, async {
        loop {
            phase_is(&cluster, |phase| {
                matches!(phase, Phase::Ready | Phase::Failed(_))
            })
            .await;
            if matches!(&*cluster.phase().borrow(), Phase::Failed(_)) {
                return cluster.wait_failed().await;
            }
            // Between two servers, which is soon over, there is none.
            if let Some(pid) = find_postmaster(&pg_dir)
                && last.replace(pid) != Some(pid)
            {
                kill(pid, Signal::SIGKILL).expect("SIGKILL");
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    let error = failed.await.expect("in time");
    assert_eq!(error.code(), "cluster-crashed");
    assert!(error.to_string().contains("ended 6 times"), "{error}");
    super::eventually("its processes to end", || processes_in(&pg_dir).is_empty());
    // Nothing to stop any more; the directory can be used again.
    cluster.stop().await;
    place.started().await.stop().await;
}

#[tokio::test]
async fn dropping_it_stops_the_server_too() {
    let place = Place::new();
    let cluster = place.started().await;
    let pg_dir = place.pg_dir();
    drop(cluster);
    super::eventually("its processes to end", || processes_in(&pg_dir).is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_stop_is_ended_by_force() {
    let mut place = Place::new();
    place.config.stop_grace = Duration::from_millis(200);
    let cluster = place.started().await;
    store(&cluster.url(), 1).await;
    let pg_dir = place.pg_dir();
    kill(postmaster(&pg_dir), Signal::SIGSTOP).expect("SIGSTOP");
    cluster.stop().await;
    super::eventually("its processes to end", || processes_in(&pg_dir).is_empty());
    place.starts_again_with(1).await;
}

#[tokio::test]
async fn a_broken_configuration_is_quoted() {
    let place = Place::new();
    place.started().await.stop().await;
    let conf = place.pg_dir().join("postgresql.conf");
    let text = std::fs::read_to_string(&conf).expect("the configuration");
    std::fs::write(&conf, format!("{text}\nno_such_setting = 1\n")).expect("written");
    let error = place.start().await.expect_err("it does not start");
    assert_eq!(error.code(), "cluster-start");
    assert!(error.to_string().contains("no_such_setting"), "{error}");

    std::fs::write(&conf, text).expect("written");
    place.started().await.stop().await;
}
