//! Nothing an agent starts outlives its run.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{PATIENCE, Place, alive, until};

#[tokio::test]
async fn a_child_left_in_the_background_is_ended() {
    let place = Place::new();
    let run = place.sh("sleep 600 & echo $! > pid; echo '{\"ok\": 1}'");
    let begun = Instant::now();
    assert_eq!(run.go().await.unwrap(), "{\"ok\": 1}");
    // The child holds the pipes open; its end, not a drain time-out, ends the reading.
    assert!(begun.elapsed() < PATIENCE);
    assert!(!alive(&place.path("home/pid")));
    place.close().await;
}

#[tokio::test]
async fn a_child_that_ignores_term_is_killed() {
    let place = Place::new();
    place
        .sh("(trap '' TERM; while :; do sleep 0.1; done) & echo $! > pid; sleep 0.1")
        .go()
        .await
        .unwrap();
    assert!(!alive(&place.path("home/pid")));
    place.close().await;
}

const DAEMONIZE: &str = "\
import os, sys, time
def leave():
    if os.fork(): return False
    os.setsid()
    if os.fork(): os._exit(0)
    return True
if leave():
    open('pid', 'w').write(str(os.getpid()))
    time.sleep(600)
while not os.path.exists('pid') or not open('pid').read(): time.sleep(0.01)
print('left', flush=True)
";

#[tokio::test]
async fn a_daemon_that_left_the_group_is_found_by_its_mark() {
    let place = Place::new();
    let run = place.python(DAEMONIZE);
    run.go().await.unwrap();
    assert!(run.log.has("left"));
    assert!(!alive(&place.path("home/pid")));
    place.close().await;
}

#[tokio::test]
async fn a_daemon_is_found_on_time_out_and_stop_as_well() {
    let place = Place::new();
    let script = format!("{DAEMONIZE}time.sleep(600)\n");
    let run = place.python(&script).timeout(Duration::from_secs(10));
    run.go().await.unwrap_err();
    assert!(run.log.has("left"));
    assert!(!alive(&place.path("home/pid")));
    std::fs::remove_file(place.path("home/pid")).unwrap();
    let run = place.python(&script);
    let (outcome, ()) = tokio::join!(run.go(), async {
        until("it left", || run.log.has("left")).await;
        run.stop.cancel();
    });
    outcome.unwrap_err();
    assert!(!alive(&place.path("home/pid")));
    place.close().await;
}

#[tokio::test]
async fn a_child_with_an_empty_environment_is_found_by_its_parent() {
    let place = Place::new();
    let sleep = "env -i setsid sh -c 'echo $$ > pid; while :; do sleep 0.1; done'";
    let run = place
        .sh(&format!("{sleep} & wait"))
        .timeout(Duration::from_secs(5));
    run.go().await.unwrap_err();
    assert!(!alive(&place.path("home/pid")));
    place.close().await;
}

#[tokio::test]
async fn a_run_that_is_dropped_takes_its_processes_along() {
    let place = Place::new();
    let run = place.python(&format!("{DAEMONIZE}time.sleep(600)\n"));
    {
        let mut going = Box::pin(run.go());
        tokio::select! {
            _ = &mut going => panic!("it sleeps"),
            () = until("it left", || run.log.has("left")) => {}
        }
    }
    until("everything is gone", || {
        place.runners.supervisor().processes().is_empty()
    })
    .await;
    assert!(!alive(&place.path("home/pid")));
    place.close().await;
}

#[tokio::test]
async fn shutdown_ends_what_nobody_stopped() {
    let place = Place::with(|options| {
        options.graces.terminate = Duration::from_millis(100);
        options.graces.kill = Duration::from_millis(500);
        options.graces.drain = Duration::from_millis(100);
    });
    let run = place.sh("echo started; exec sleep 600");
    let (outcome, ()) = tokio::join!(run.go(), async {
        until("the agent runs", || run.log.has("started")).await;
        place.runners.shutdown().await;
    });
    assert!(outcome.unwrap_err().message.contains("SIGKILL"));
    place.close().await;
}
