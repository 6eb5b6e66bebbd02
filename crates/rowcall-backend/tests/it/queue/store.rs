//! A1: queues as producers see them, in every version.

use std::time::Duration;

use rowcall_backend::queue::{Kind, QueueError, QueueName};

use super::{VERSIONS, database, json, name, store, value};

#[tokio::test]
async fn a1_every_operation_in_every_version() {
    for version in VERSIONS {
        let db = database(version).await;
        let store = store(&db);
        for queue in ["incoming-messages", "MixedCase", "plain"] {
            let queue = name(queue);
            store.create(&queue, Kind::Logged).await.unwrap();
            store.create(&queue, Kind::Logged).await.unwrap();
            let first = store
                .send(&queue, &json(serde_json::json!({"a": 1})), Duration::ZERO)
                .await
                .unwrap();
            let rest = store
                .send_batch(
                    &queue,
                    &[
                        json(serde_json::json!([2])),
                        json(serde_json::json!("three")),
                    ],
                    Duration::ZERO,
                )
                .await
                .unwrap();
            assert_eq!((first, rest), (1, vec![2, 3]), "{version} {queue}");
            store
                .send(&queue, &json(serde_json::json!({})), Duration::from_mins(1))
                .await
                .unwrap();
            let metrics = store.metrics(&queue).await.unwrap();
            assert_eq!(
                (
                    metrics.queue_length,
                    metrics.queue_visible_length,
                    metrics.total_messages
                ),
                (4, 3, 4)
            );
            let read = store
                .read(&queue, Duration::from_secs(30), 10)
                .await
                .unwrap();
            let messages: Vec<_> = read.iter().map(|message| value(&message.message)).collect();
            assert_eq!(
                messages,
                [
                    serde_json::json!({"a": 1}),
                    serde_json::json!([2]),
                    serde_json::json!("three")
                ]
            );
            assert!(
                read.iter()
                    .all(|message| message.read_ct == 1 && message.headers.is_none())
            );
            assert_eq!(
                store.peek(&queue, 10).await.unwrap().len(),
                4,
                "looking changes nothing"
            );
            assert!(
                store.archive(&queue, 1).await.unwrap() && !store.archive(&queue, 1).await.unwrap()
            );
            assert!(
                store.delete(&queue, 2).await.unwrap() && !store.delete(&queue, 2).await.unwrap()
            );
            assert_eq!(store.purge(&queue).await.unwrap(), 2);
        }
        store.create(&name("fast"), Kind::Unlogged).await.unwrap();
        let kinds: Vec<_> = store
            .list()
            .await
            .unwrap()
            .into_iter()
            .map(|queue| (queue.name, queue.kind))
            .collect();
        assert!(
            kinds.contains(&("fast".to_owned(), Kind::Unlogged))
                && kinds.contains(&("MixedCase".to_owned(), Kind::Logged))
        );
        assert_eq!(store.metrics_all().await.unwrap().len(), 4);
        assert!(
            store.drop(&name("mixedcase")).await.unwrap(),
            "{version}: whatever the case it is asked in"
        );
        assert!(!store.drop(&name("mixedcase")).await.unwrap());
        assert_eq!(store.list().await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a1_a_missing_queue_is_named_with_its_code() {
    for version in VERSIONS {
        let db = database(version).await;
        let store = store(&db);
        let error = store
            .send(
                &name("no-such"),
                &json(serde_json::json!({})),
                Duration::ZERO,
            )
            .await
            .unwrap_err();
        assert!(
            matches!(&error, QueueError::Missing(queue) if queue.as_str() == "no-such"),
            "{error}"
        );
        assert!(error.to_string().contains("42P01"));
        assert!(matches!(
            store.metrics(&name("no-such")).await,
            Err(QueueError::Missing(_))
        ));
        assert!(!store.drop(&name("no-such")).await.unwrap());
    }
}

#[tokio::test]
async fn a1_without_pgmq_the_error_says_so() {
    let db = rowcall_stack::testing::TestDb::create().await;
    let error = store(&db).list().await.unwrap_err();
    assert!(matches!(error, QueueError::NotInstalled), "{error}");
}

#[test]
fn c8_names_that_would_inject_are_refused() {
    for text in ["q'; drop table x; --", "a;b", "a$$b"] {
        assert!(QueueName::new(text).is_err(), "{text}");
    }
}
