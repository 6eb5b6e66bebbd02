//! What can be looked at in the database.

use rowcall_backend::{
    capture,
    migrate::{self, FunctionState},
};
use rowcall_core::{App, Clock as _, TableName};
use tokio_postgres::Client;

use super::Finding;
use crate::{
    cli::{Context, app::captured_tables, context::connect, setup},
    daemon::mask_url,
    system::SystemClock,
};

/// The oldest PostgreSQL that works.
const OLDEST_VERSION: i32 = 140_000;

/// Clocks that differ by more than this confuse people who compare logs. Leases do not depend on it.
const MAX_CLOCK_SKEW_SECONDS: f64 = 5.0;

pub(super) async fn look(url: &str, context: &Context) -> Vec<Finding> {
    let client = match connect(url).await {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding::problem(
                "database",
                format!("{}: {error}", mask_url(url)),
                "check --database-url",
            )];
        }
    };
    let mut findings = Vec::new();
    match server(&client).await {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(Finding::problem(
            "database",
            error.to_string(),
            "see the server's log",
        )),
    }
    findings.push(schema(&client).await);
    findings.extend(functions(&client).await);
    if let Ok(rows) = context.store().and_then(|store| Ok(store.apps()?)) {
        for app in rows
            .iter()
            .filter(|row| row.enabled)
            .filter_map(|row| row.parse().ok())
        {
            findings.extend(captures(&client, &app).await);
        }
    }
    findings.extend(super::queues::look(url, context).await);
    findings.extend(attention(&client, context.config.engine.max_attempts).await);
    findings
}

async fn server(client: &Client) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let row = client
        .query_one(
            "select current_setting('server_version_num')::int, current_setting('server_version'), \
             current_setting('wal_level'), extract(epoch from clock_timestamp())::float8, \
             exists (select from pg_extension where extname = 'pg_cron')",
            &[],
        )
        .await?;
    let (number, version, wal, epoch, cron): (i32, String, String, f64, bool) =
        (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    let mut findings = vec![if number < OLDEST_VERSION {
        Finding::problem(
            "database",
            format!("PostgreSQL {version} is too old"),
            "use version 14 or newer",
        )
    } else {
        Finding::good("database", format!("PostgreSQL {version}"))
    }];
    if wal != "logical" {
        findings.push(Finding::notice(
            "wal_level",
            format!("{wal}: tasks work, but Realtime cannot be served over this database"),
            "alter system set wal_level = logical; -- then restart PostgreSQL",
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
    let skew = (SystemClock.now().as_millisecond() as f64 / 1000.0 - epoch).abs();
    if skew > MAX_CLOCK_SKEW_SECONDS {
        findings.push(Finding::notice(
            "clock",
            format!("this machine's clock differs from the database's by {skew:.0} s"),
            "leases do not depend on it, logs do: synchronise the clocks (NTP)",
        ));
    }
    let recovery = if cron {
        "pg_cron is installed: it recovers stale leases as well"
    } else {
        "by the daemons (pg_cron is not installed and not needed)"
    };
    findings.push(Finding::good("stale leases", recovery));
    Ok(findings)
}

async fn schema(client: &Client) -> Finding {
    match migrate::status(client).await {
        Ok(status) if status.is_current() => Finding::good(
            "schema",
            format!("{} migrations applied", status.applied.len()),
        ),
        Ok(status) => Finding::problem(
            "schema",
            format!("{} migrations are pending", status.pending.len()),
            "rowcall db migrate",
        ),
        Err(error) => Finding::problem("schema", error.to_string(), "rowcall db status"),
    }
}

async fn functions(client: &Client) -> Vec<Finding> {
    let Ok(status) = migrate::status(client).await else {
        return Vec::new();
    };
    status
        .functions
        .iter()
        .filter(|function| function.state == FunctionState::Foreign)
        .map(|function| {
            Finding::notice(
                "functions",
                format!(
                    "{} was made by somebody else and has the published defects",
                    function.signature
                ),
                "rowcall db migrate --replace-functions   (RealTimeX clients keep working)",
            )
        })
        .collect()
}

async fn captures(client: &Client, app: &App) -> Vec<Finding> {
    let installed = match capture::list(client).await {
        Ok(captures) => captures,
        Err(error) => {
            return vec![Finding::problem(
                "capture",
                error.to_string(),
                "rowcall setup --list",
            )];
        }
    };
    captured_tables(app)
        .into_iter()
        .map(|table: TableName| {
            let check = format!("capture of {table}");
            let found = installed
                .iter()
                .find(|one| one.table.as_ref() == Some(&table));
            if found.is_some_and(|one| one.active && one.source == table.to_string()) {
                Finding::good(&check, "changes become tasks")
            } else if found.is_some() {
                let found = "its triggers are disabled, or the table was renamed since";
                Finding::problem(&check, found, setup::command_for(app, &table))
            } else {
                let found = format!(
                    "app {} handles its changes, but nothing makes them into tasks",
                    app.name
                );
                Finding::problem(&check, found, setup::command_for(app, &table))
            }
        })
        .collect()
}

async fn attention(client: &Client, max_attempts: u32) -> Option<Finding> {
    let limit = i32::try_from(max_attempts).unwrap_or(i32::MAX);
    let sql =
        "select count(*) from public.rtx_activities where status = 'failed' and retry_count >= $1";
    let count: i64 = client.query_one(sql, &[&limit]).await.ok()?.get(0);
    (count > 0).then(|| {
        Finding::notice(
            "tasks",
            format!("{count} failed too often and need a person"),
            "rowcall task list --attention",
        )
    })
}
