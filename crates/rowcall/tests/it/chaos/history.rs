//! What happened to every task, recorded by the database, and whether it kept the promises.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tokio_postgres::Client;
use uuid::Uuid;

/// Records every change of a task's state or holder, in the transaction that makes it.
const RECORDER: &str = "
    create table public.history (
      seq bigint generated always as identity primary key,
      at timestamptz not null default clock_timestamp(),
      task uuid not null, status text, machine text, attempt integer, locked_at timestamptz
    );
    create function public.record_history() returns trigger language plpgsql as $$
    begin
      if tg_op = 'INSERT' or (old.status, old.locked_by, old.attempt, old.locked_at)
                is distinct from (new.status, new.locked_by, new.attempt, new.locked_at) then
        insert into public.history (task, status, machine, attempt, locked_at)
        values (new.id, new.status, new.locked_by, new.attempt, new.locked_at);
      end if;
      return null;
    end $$;
    create trigger history after insert or update on public.rtx_activities
      for each row execute function public.record_history();
";

/// One recorded change.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    at: Timestamp,
    status: String,
    machine: Option<String>,
    attempt: i32,
    locked_at: Option<Timestamp>,
}

pub(crate) async fn record(client: &Client) {
    client.batch_execute(RECORDER).await.expect("the recorder");
}

pub(crate) async fn read(client: &Client) -> BTreeMap<Uuid, Vec<Change>> {
    let sql =
        "select task, at, status, machine, attempt, locked_at from public.history order by seq";
    let mut tasks: BTreeMap<Uuid, Vec<Change>> = BTreeMap::new();
    for row in client.query(sql, &[]).await.expect("the history") {
        tasks.entry(row.get(0)).or_default().push(Change {
            at: row.get(1),
            status: row.get(2),
            machine: row.get(3),
            attempt: row.get(4),
            locked_at: row.get(5),
        });
    }
    tasks
}

/// Numbers worth printing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) tasks: usize,
    pub(crate) claims: usize,
    pub(crate) recovered: usize,
}

/// Checks every task's history: leases never overlap, a task is completed exactly once and never touched again.
pub(crate) fn check(
    history: &BTreeMap<Uuid, Vec<Change>>,
    ttl: Duration,
) -> Result<Summary, String> {
    let mut summary = Summary {
        tasks: history.len(),
        ..Summary::default()
    };
    for (task, changes) in history {
        let mut holder: Option<Change> = None;
        let mut completed = false;
        for change in changes {
            let bad = |what: &str| Err(format!("task {task}: {what}: {changes:#?}"));
            if completed {
                return bad("changed after it was completed");
            }
            let leased = matches!(change.status.as_str(), "claimed" | "processing");
            match (&holder, leased) {
                (None, true) => {
                    summary.claims += 1;
                    holder = Some(change.clone());
                }
                (Some(before), true) => {
                    let same = before.machine == change.machine && before.attempt == change.attempt;
                    if !same {
                        if !expired(before, change.at, ttl) {
                            return bad("two leases overlap");
                        }
                        summary.claims += 1;
                        summary.recovered += 1;
                    }
                    holder = Some(change.clone());
                }
                (Some(before), false) => {
                    let by_holder =
                        before.machine == change.machine && before.attempt == change.attempt;
                    match change.status.as_str() {
                        "completed" if by_holder => completed = true,
                        "completed" => return bad("completed by somebody else than the holder"),
                        "pending" if expired(before, change.at, ttl) => summary.recovered += 1,
                        // A soft stop gives the task back; a failure ends the attempt.
                        "pending" | "failed" => {}
                        _ => return bad("left its lease in an unknown way"),
                    }
                    holder = None;
                }
                (None, false) if change.status == "completed" => {
                    return bad("completed without a lease");
                }
                (None, false) => {}
            }
        }
        if !completed {
            return Err(format!("task {task} was lost: {changes:#?}"));
        }
    }
    Ok(summary)
}

fn expired(lease: &Change, at: Timestamp, ttl: Duration) -> bool {
    lease.locked_at.is_none_or(|locked_at| {
        at.duration_since(locked_at) >= jiff::SignedDuration::try_from(ttl).expect("a short time")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(3);

    fn change(second: i64, status: &str, machine: Option<&str>, attempt: i32) -> Change {
        let at = Timestamp::from_second(second).unwrap();
        Change {
            at,
            status: status.to_owned(),
            machine: machine.map(str::to_owned),
            attempt,
            locked_at: machine.map(|_| at),
        }
    }

    fn checked(changes: &[Change]) -> Result<Summary, String> {
        check(&BTreeMap::from([(Uuid::nil(), changes.to_vec())]), TTL)
    }

    #[test]
    fn an_ordinary_life_passes() {
        let summary = checked(&[
            change(0, "pending", None, 0),
            change(1, "claimed", Some("a"), 1),
            change(5, "pending", None, 1),
            change(6, "claimed", Some("b"), 2),
            change(7, "completed", Some("b"), 2),
        ]);
        assert_eq!(
            summary,
            Ok(Summary {
                tasks: 1,
                claims: 2,
                recovered: 1
            })
        );
    }

    #[test]
    fn every_broken_promise_is_found() {
        for (changes, part) in [
            (vec![change(0, "pending", None, 0)], "was lost"),
            (
                vec![
                    change(0, "claimed", Some("a"), 1),
                    change(1, "claimed", Some("b"), 2),
                ],
                "two leases overlap",
            ),
            (
                vec![
                    change(0, "claimed", Some("a"), 1),
                    change(1, "completed", Some("b"), 1),
                ],
                "somebody else",
            ),
            (
                vec![
                    change(0, "claimed", Some("a"), 1),
                    change(1, "completed", Some("a"), 2),
                ],
                "somebody else",
            ),
            (
                vec![
                    change(0, "claimed", Some("a"), 1),
                    change(1, "completed", Some("a"), 1),
                    change(2, "completed", Some("b"), 1),
                ],
                "after it was completed",
            ),
            (
                vec![change(0, "completed", Some("a"), 1)],
                "without a lease",
            ),
        ] {
            let found = checked(&changes).unwrap_err();
            assert!(found.contains(part), "{part}: {found}");
        }
    }
}
