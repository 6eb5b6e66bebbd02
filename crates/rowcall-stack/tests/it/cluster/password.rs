//! The superuser's password.

use rowcall_stack::cluster::PasswordChoice;

use super::{Place, connect, store};

fn password_in(url: &str) -> &str {
    let (_, rest) = url.split_once("postgres:").expect("a password");
    rest.split_once('@').expect("a host").0
}

#[tokio::test]
async fn generated_once_and_changed_when_asked() {
    let mut place = Place::new();
    let cluster = place.started().await;
    let generated = password_in(&cluster.url()).to_owned();
    assert_eq!(generated.len(), 32);
    store(&cluster.url(), 1).await;
    cluster.stop().await;

    let cluster = place.started().await;
    assert_eq!(password_in(&cluster.url()), generated);
    cluster.stop().await;

    place.config.password = PasswordChoice::WellKnown;
    let cluster = place.started().await;
    assert_eq!(password_in(&cluster.url()), "postgres");
    connect(&cluster.url()).await;
    cluster.stop().await;

    place.config.password = PasswordChoice::Generated;
    let cluster = place.started().await;
    assert_ne!(password_in(&cluster.url()), "postgres");
    assert_ne!(password_in(&cluster.url()), generated);
    cluster.stop().await;
    place.starts_again_with(1).await;
}

#[tokio::test]
async fn a_lost_password_is_set_anew_without_opening_the_database() {
    let place = Place::new();
    let cluster = place.started().await;
    let before = password_in(&cluster.url()).to_owned();
    store(&cluster.url(), 2).await;
    cluster.stop().await;
    let rules = place.pg_dir().join("pg_hba.conf");
    let rules_before = std::fs::read_to_string(&rules).expect("rules");
    std::fs::remove_file(place.data_dir().join("secret/postgres")).expect("lost");

    let cluster = place.started().await;
    assert_ne!(password_in(&cluster.url()), before);
    let client = connect(&cluster.url()).await;
    let methods = "select distinct auth_method from pg_hba_file_rules";
    let row = client
        .query_one(methods, &[])
        .await
        .expect("one kind of rule");
    assert_eq!(row.get::<_, String>(0), "scram-sha-256");
    assert_eq!(
        std::fs::read_to_string(&rules).expect("rules"),
        rules_before
    );
    let log = cluster.log_tail(usize::MAX).join("\n");
    assert!(!log.contains(password_in(&cluster.url())), "not in the log");
    cluster.stop().await;
    place.starts_again_with(2).await;
}

#[tokio::test]
async fn rules_left_open_by_a_killed_daemon_are_closed() {
    let place = Place::new();
    place.started().await.stop().await;
    let rules = place.pg_dir().join("pg_hba.conf");
    let closed = std::fs::read_to_string(&rules).expect("rules");
    // Killed in the middle of setting a new password.
    std::fs::rename(&rules, rules.with_extension("conf.rowcall-saved")).expect("moved");
    std::fs::write(&rules, "local all postgres trust\n").expect("written");

    place.started().await.stop().await;
    assert_eq!(std::fs::read_to_string(&rules).expect("rules"), closed);
}
