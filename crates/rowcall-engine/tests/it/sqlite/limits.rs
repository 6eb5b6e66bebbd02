//! How much is kept, and for how long.

use super::*;

#[tokio::test]
async fn old_history_is_forgotten_and_open_entries_are_not() {
    let dir = Dir::new();
    let short = StoreOptions {
        keep: Duration::from_hours(1),
        ..StoreOptions::default()
    };
    {
        let (_store, writer) = dir.open_with(short);
        let waiting = Record::Seen(Box::new(seen(2, Trigger::Review)));
        write(
            &writer,
            vec![
                started(1, 1),
                line(1, "x"),
                ended(1, 1, Outcome::Completed),
                waiting,
            ],
        )
        .await;
    }
    dir.clock.advance(Duration::from_hours(2));
    let (store, writer) = dir.open_with(short);
    write(&writer, vec![line(3, "wakes the writer")]).await;
    assert_eq!(calendar(&store), [(task(2).id, CalendarState::Waiting)]);
    assert!(store.attempts(&task(1).id, None).unwrap().is_empty());
}

#[tokio::test]
async fn lines_are_bounded_in_total_and_the_oldest_go_first() {
    let dir = Dir::new();
    let small = StoreOptions {
        log_total: 2_500,
        ..StoreOptions::default()
    };
    {
        let (_store, writer) = dir.open_with(StoreOptions::default());
        for number in 1..=5 {
            let text = "x".repeat(999);
            write(
                &writer,
                vec![
                    started(number, 1),
                    line(number, &text),
                    ended(number, 1, Outcome::Completed),
                ],
            )
            .await;
        }
    }
    let (store, writer) = dir.open_with(small);
    write(&writer, vec![started(9, 1)]).await;
    let kept: Vec<usize> = (1..=5)
        .map(|n| {
            store
                .logs(&task(n).id, None, None, 0, 10)
                .unwrap()
                .unwrap()
                .lines
                .len()
        })
        .collect();
    assert_eq!(kept, [0, 0, 0, 1, 1]);
    assert_eq!(store.attempts(&task(1).id, None).unwrap()[0].cut_lines, 1);
}
