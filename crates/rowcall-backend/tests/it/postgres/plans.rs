//! What statements cost, counted in rows read: a wrong plan reads a table or an index through for every task.

use std::time::Duration;

use rowcall_core::{
    AppId, EventSet, LeaseKey, LeasePolicy, MachineId, Payload, RetryPolicy, Selector, TableName,
    TaskId, TaskRef,
    ports::{ClaimBatch, ClaimOrder, ClaimRules, Coordinator, Settlement, Verdict},
};

use super::database::{Database, database};

const TASKS: i64 = 3000;
/// Statistics of other sessions arrive a little later.
const PATIENCE: Duration = Duration::from_mins(1);

/// Sequential scans of the table, and index entries read, once at least so many updates were counted.
async fn reads(database: &Database, updates: i64) -> (i64, i64) {
    let client = &database.client;
    let nobody = TaskRef {
        table: TableName::activities(),
        id: TaskId::Uuid(uuid::Uuid::nil()),
    };
    let sql = "select t.n_tup_upd, t.seq_scan, (select sum(i.idx_tup_read)::bigint from pg_stat_user_indexes i where i.relid = t.relid) \
               from pg_stat_user_tables t where t.relname = 'rtx_activities'";
    let counted = async {
        loop {
            let row = client.query_one(sql, &[]).await.unwrap();
            if row.get::<_, i64>(0) >= updates {
                return (row.get(1), row.get(2));
            }
            // The backend's session tells what it did with its next statement: before 15 it does not by itself.
            database.backend.inspect(&nobody).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted)
        .await
        .expect("the updates are counted")
}

#[tokio::test]
async fn every_task_is_found_by_index_however_many_there_are() {
    let database = database().await;
    // Two sources, so that one backlog stands before the other. No statistics: nobody has analysed the table yet.
    let fill = format!(
        "set rowcall.quiet = on; insert into rtx_activities (raw_data, source_table) \
         select '{{}}', case when n % 2 = 0 then 'public.other' else 'public.mine' end from generate_series(1, {}) n",
        2 * TASKS
    );
    database.client.batch_execute(&fill).await.unwrap();
    let (scans_before, read_before) = reads(&database, 0).await;
    let rules = ClaimRules {
        machine: MachineId::new("m").unwrap(),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    };
    let selector = Selector {
        table: "mine".parse().unwrap(),
        events: EventSet::ALL,
        filter: None,
    };
    let selectors = [selector];
    let batch = ClaimBatch {
        app: AppId::new("plans").unwrap(),
        selectors: selectors.clone().into(),
        limit: 500,
        retryable: true,
        order: ClaimOrder::OldestFirst,
        hints: std::sync::Arc::default(),
    };
    let backend = &database.backend;
    let mut leases: Vec<LeaseKey> = Vec::new();
    loop {
        let claimed = backend.claim_next(&rules, &batch).await.unwrap();
        if claimed.is_empty() {
            break;
        }
        leases.extend(claimed.into_iter().map(|one| one.lease.into_key()));
    }
    assert_eq!(i64::try_from(leases.len()).unwrap(), TASKS);
    for part in leases.chunks(500) {
        backend.renew(part).await.unwrap();
        backend.mark_processing(part).await.unwrap();
        let verdict = |n: usize| match n % 3 {
            0 => Verdict::Failed {
                error: "x".into(),
                retry_in: None,
            },
            _ => Verdict::Completed(Payload::empty_object()),
        };
        let settlements: Vec<Settlement> = part
            .iter()
            .enumerate()
            .map(|(n, lease)| Settlement {
                lease: lease.clone(),
                verdict: verdict(n),
            })
            .collect();
        backend
            .settle_and_claim(&rules, &settlements, &batch)
            .await
            .unwrap();
        backend.maintain(&rules, &selectors).await.unwrap();
        backend.sweep(&selectors, None, 50).await.unwrap();
    }
    let (scans, read) = reads(&database, 4 * TASKS).await;
    assert_eq!(scans, scans_before, "no sequential scans");
    let per_task = (read - read_before) / TASKS;
    // Four writes by id, one claim, and a share of the sweeps; a wrong index makes it thousands.
    assert!(per_task < 60, "{per_task} index entries read for each task");
}
