//! A server that takes encrypted connections only.

use futures_util::StreamExt as _;
use rowcall_backend::{PostgresBackend, PostgresConfig};
use rowcall_core::{Signal, ports::SignalSource as _};
use rowcall_stack::testing::{TestCluster, TlsFront};
use tokio::time::{Duration, timeout};

use super::database::migrated;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn statements_and_wake_ups_are_encrypted_and_certificates_checked() {
    let port = TestCluster::shared().await.port();
    let front = TlsFront::before(port, "localhost").await;
    let stranger = TlsFront::before(port, "localhost").await;
    let db = migrated().await;
    let through = |roots: &TlsFront| {
        let roots = roots.roots();
        let settings = format!("sslmode=verify-full&sslrootcert={}", roots.display());
        PostgresConfig::new(&front.url(&db.url(), &settings), "test").unwrap()
    };
    let backend = PostgresBackend::connect(through(&front)).await.unwrap();
    let mut signals = backend.signals();
    let mut next = async || timeout(PATIENCE, signals.next()).await.expect("a signal");
    assert_eq!(next().await, Some(Signal::Up));
    let client = db.connect().await;
    client
        .batch_execute("insert into rtx_activities (raw_data) values ('{}')")
        .await
        .unwrap();
    assert!(matches!(next().await, Some(Signal::Dirty { .. })));

    let refused = PostgresBackend::connect(through(&stranger)).await.err();
    let said = refused.expect("its authority is not ours").to_string();
    assert!(said.contains("sslrootcert=FILE"), "{said}");
    assert!(front.encrypted() >= 2 && front.refused() == 0);
}
