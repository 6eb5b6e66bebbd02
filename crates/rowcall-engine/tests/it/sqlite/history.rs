//! What is kept of tasks, and how it is read.

use super::*;

#[tokio::test]
async fn a_task_is_in_the_calendar_once() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    let again = || Record::Seen(Box::new(seen(1, Trigger::Auto)));
    write(&writer, vec![again(), again()]).await;
    write(&writer, vec![again()]).await;
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Seen)]);
    write(&writer, vec![started(1, 1), again()]).await;
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Running)]);
    write(&writer, vec![ended(1, 1, Outcome::Failed), again()]).await;
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Failed)]);
}

#[tokio::test]
async fn attempts_are_kept_whether_or_not_they_fit_in_one_batch() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    write(&writer, vec![started(1, 1)]).await;
    write(
        &writer,
        vec![
            ended(1, 1, Outcome::Failed),
            started(1, 2),
            ended(1, 2, Outcome::Completed),
        ],
    )
    .await;
    let attempts = store.attempts(&task(1).id, None).unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|row| (row.attempt, row.outcome, row.error.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (1, Some(Outcome::Failed), Some("it broke")),
            (2, Some(Outcome::Completed), None)
        ]
    );
    assert_eq!(attempts[1].ended_at, Some(now()));
    assert_eq!(attempts[0].machine.as_deref(), Some("m1"));
    assert!(store.attempts(&task(2).id, None).unwrap().is_empty());
}

#[tokio::test]
async fn a_review_task_waits_again_after_a_release() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    write(
        &writer,
        vec![Record::Seen(Box::new(seen(1, Trigger::Review)))],
    )
    .await;
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Waiting)]);
    write(&writer, vec![started(1, 1)]).await;
    write(&writer, vec![ended(1, 1, Outcome::Released)]).await;
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Waiting)]);
    assert!(
        store
            .mark_calendar(&task(1), CalendarState::Skipped, None, now())
            .unwrap()
    );
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Skipped)]);
}

#[tokio::test]
async fn what_a_killed_daemon_left_open_is_interrupted() {
    let dir = Dir::new();
    {
        let (_store, writer) = dir.open_with(StoreOptions::default());
        write(&writer, vec![started(1, 1)]).await;
    }
    let (store, _writer) = dir.open_with(StoreOptions::default());
    let attempts = store.attempts(&task(1).id, None).unwrap();
    assert_eq!(attempts[0].outcome, Some(Outcome::Interrupted));
    assert_eq!(calendar(&store), [(task(1).id, CalendarState::Seen)]);
}

#[tokio::test]
async fn logs_keep_the_first_and_the_last_lines() {
    let dir = Dir::new();
    let small = StoreOptions {
        log_head: 100,
        log_tail: 200,
        ..StoreOptions::default()
    };
    let (store, writer) = dir.open_with(small);
    // In several batches, each line 10 bytes with its end.
    for batch in 0..10 {
        let lines = (0..100).map(|n| line(1, &format!("{:09}", batch * 100 + n)));
        write(&writer, lines.collect()).await;
    }
    let page = store
        .logs(&task(1).id, None, None, 0, 1_000)
        .unwrap()
        .unwrap();
    let texts: Vec<i64> = page
        .lines
        .iter()
        .map(|line| line.line.parse().unwrap())
        .collect();
    let expected: Vec<i64> = (0..10).chain(980..1_000).collect();
    assert_eq!(texts, expected);
    let cut = page.cut.unwrap();
    assert_eq!((cut.after, cut.lines, cut.bytes), (10, 970, 9_700));
    let attempt = &store.attempts(&task(1).id, None).unwrap()[0];
    assert_eq!(
        (attempt.log_lines, attempt.log_bytes, attempt.cut_lines),
        (1_000, 300, 970)
    );
}

#[tokio::test]
async fn a_follower_reads_on_from_its_cursor() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    assert_eq!(store.logs(&task(1).id, None, None, 0, 10).unwrap(), None);
    write(&writer, vec![started(1, 1), line(1, "a"), line(1, "b")]).await;
    let first = store
        .logs(&task(1).id, None, Some(1), 0, 10)
        .unwrap()
        .unwrap();
    assert_eq!((first.lines.len(), first.ended), (2, false));
    let cursor = first.lines.last().unwrap().seq;
    write(&writer, vec![line(1, "c"), ended(1, 1, Outcome::Completed)]).await;
    let next = store
        .logs(&task(1).id, None, Some(1), cursor, 10)
        .unwrap()
        .unwrap();
    assert_eq!((next.lines[0].line.as_str(), next.ended), ("c", true));
}

#[tokio::test]
async fn a_line_that_comes_before_its_attempt_is_kept() {
    let dir = Dir::new();
    let (store, writer) = dir.open_with(StoreOptions::default());
    write(&writer, vec![line(1, "early")]).await;
    write(&writer, vec![started(1, 1)]).await;
    let page = store.logs(&task(1).id, None, None, 0, 10).unwrap().unwrap();
    assert_eq!(page.lines[0].line, "early");
    let attempt = &store.attempts(&task(1).id, None).unwrap()[0];
    assert_eq!(
        (attempt.app.as_deref(), attempt.log_lines),
        (Some("shop"), 1)
    );
}
