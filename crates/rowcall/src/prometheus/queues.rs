//! How the queues of this worker stand.

use std::time::Duration;

use super::Page;
use crate::daemon::QueueBoard;

/// How old the depths of queues may be while messages are in work here, and while none are. Looking costs one statement.
const FRESH: Duration = Duration::from_secs(10);
const FRESH_IDLE: Duration = Duration::from_mins(1);

/// Writes how the queues stand that this process reads; nothing where it reads none.
pub(crate) async fn queues(page: &mut Page, board: &QueueBoard) {
    let Some(own) = board.own() else {
        return;
    };
    let max_age = if own.running == 0 { FRESH_IDLE } else { FRESH };
    match board.own_depths(max_age).await {
        Ok(depths) => {
            for (name, help, value) in [
                (
                    "rowcall_queue_depth",
                    "Messages in a queue: waiting, delayed, or in work.",
                    depths
                        .iter()
                        .map(|one| one.length.to_string())
                        .collect::<Vec<_>>(),
                ),
                (
                    "rowcall_queue_visible",
                    "Messages of a queue that could be read now.",
                    depths.iter().map(|one| one.visible.to_string()).collect(),
                ),
                (
                    "rowcall_queue_oldest_age_seconds",
                    "How long the oldest message that could be read has been in the queue; 0 when there is none.",
                    depths.iter().map(|one| age(one.oldest_visible)).collect(),
                ),
            ] {
                page.family(name, "gauge", help);
                for (depth, value) in depths.iter().zip(value) {
                    page.value(name, &[("queue", depth.queue.as_str())], value);
                }
            }
        }
        // Old numbers would look like new ones: none are better.
        Err(error) => tracing::debug!(%error, "the depths of the queues are not known now"),
    }
    page.family(
        "rowcall_queue_workers",
        "gauge",
        "Workers that presence shows, this one among them; 1 without Realtime.",
    );
    page.value("rowcall_queue_workers", &[], own.workers);
    page.family(
        "rowcall_queue_presence_drift",
        "gauge",
        "Messages in work here that presence does not show, and those it shows that have ended; 0 without Realtime.",
    );
    page.value("rowcall_queue_presence_drift", &[], own.drift);
}

fn age(age: Option<Duration>) -> String {
    age.unwrap_or_default().as_secs_f64().to_string()
}
