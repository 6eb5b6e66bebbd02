//! What an idle daemon asks of its database.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio_postgres::Client;

use crate::{
    daemon::{self, Daemon, Start},
    machine,
    numbers::number,
    report::{Cell, Goal, Report, progress},
    server::{Place, Server, connect, start_cluster},
    usage::Worker,
};

/// The goal of the project.
const MOST_PER_MINUTE: f64 = 2.0;
/// How many of the statements are shown.
const SHOWN: i64 = 6;

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many seconds are watched; shorter times say little about one statement a minute
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// How many seconds a daemon settles after its start
    #[arg(long, default_value_t = 20)]
    settle: u64,
}

struct Watched {
    name: &'static str,
    daemon: Daemon,
    /// A connection whose own statements are left out, and how many backends' CPU times to read.
    client: Client,
    database: String,
    calls: i64,
    commits: i64,
    cpu: Duration,
}

/// The statements of everybody but this connection's own looks.
async fn calls(client: &Client, database: &str) -> Result<i64> {
    let sql = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements \
               where dbid = (select oid from pg_database where datname = $1) and query not like '%pg_stat_%'";
    Ok(client.query_one(sql, &[&database]).await?.get(0))
}

async fn commits(client: &Client, database: &str) -> Result<i64> {
    let sql = "select xact_commit from pg_stat_database where datname = $1";
    Ok(client.query_one(sql, &[&database]).await?.get(0))
}

impl Watched {
    async fn begin(&mut self) -> Result<()> {
        self.client
            .batch_execute("select pg_stat_statements_reset()")
            .await?;
        self.calls = calls(&self.client, &self.database).await?;
        self.commits = commits(&self.client, &self.database).await?;
        self.cpu = Worker::Process(self.daemon.pid()?).cpu()?;
        Ok(())
    }

    async fn end(self, seconds: u64, report: &mut Report) -> Result<()> {
        let minutes = Duration::from_secs(seconds).as_secs_f64() / 60.0;
        let per_minute = number(calls(&self.client, &self.database).await? - self.calls) / minutes;
        let commits = number(commits(&self.client, &self.database).await? - self.commits) / minutes;
        let cpu = Worker::Process(self.daemon.pid()?)
            .cpu()?
            .saturating_sub(self.cpu);
        report.rows.push(vec![
            Cell::Text(self.name.to_owned()),
            Cell::Number(per_minute, 2),
            Cell::Number(commits, 1),
            Cell::Number(cpu.as_secs_f64() * 1e3 / minutes, 1),
        ]);
        report.goals.push(Goal {
            wanted: format!(
                "{}: at most {MOST_PER_MINUTE} statements per minute",
                self.name
            ),
            measured: format!("{per_minute:.2}"),
            met: per_minute <= MOST_PER_MINUTE,
        });
        let sql = "select calls, regexp_replace(left(regexp_replace(query, '--[^\\n]*\\n', ' ', 'g'), 90), '\\s+', ' ', 'g') \
                   from pg_stat_statements where dbid = (select oid from pg_database where datname = $1) \
                   and query not like '%pg_stat_%' order by calls desc limit $2";
        for row in self.client.query(sql, &[&self.database, &SHOWN]).await? {
            let (calls, query): (i64, String) = (row.get(0), row.get(1));
            report
                .notes
                .push(format!("{}: {calls} × {query}", self.name));
        }
        drop(self.client);
        self.daemon.stop().await
    }
}

/// Watches two daemons at the same time: one on a given database, one with its own and everything it serves.
pub(crate) async fn run(
    place: &Place,
    options: &Options,
) -> Result<(Report, Vec<(&'static str, String)>)> {
    let program = daemon::build().await?;
    let server = Server::start(place).await?;
    let machine = machine::describe(server.directory(), server.version().await?)?;
    let dir = place.directory()?;
    let database = server.create(None).await?;
    let url = server.url(&database);
    let given = Start {
        program: &program,
        data_dir: &dir.path().join("given"),
        database_url: Some(&url),
        stack: false,
        db_port: 24_900,
    };
    let mut all = vec![Watched {
        name: "rowcall up --database-url",
        daemon: Daemon::start(place, &given).await?,
        client: connect(&server.url("postgres")).await?,
        database,
        calls: 0,
        commits: 0,
        cpu: Duration::ZERO,
    }];
    let own_dir = dir.path().join("own");
    let (cluster, lock) = start_cluster(place, &own_dir, dir.path().join("cache")).await?;
    cluster.stop().await;
    drop(lock);
    let own = Start {
        data_dir: &own_dir,
        database_url: None,
        stack: true,
        ..given
    };
    let daemon = Daemon::start(place, &own).await?;
    let url = daemon::database_url(&program, &own_dir).await?;
    all.push(Watched {
        name: "rowcall up, own database and stack",
        daemon,
        client: connect(&url).await?,
        database: "postgres".into(),
        calls: 0,
        commits: 0,
        cpu: Duration::ZERO,
    });
    tokio::time::sleep(Duration::from_secs(options.settle)).await;
    for one in &mut all {
        one.begin().await?;
    }
    progress(format_args!("watching for {} s", options.seconds));
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let mut report = Report {
        title: format!(
            "Idle: what a daemon without work asks of its database, over {} s",
            options.seconds
        ),
        columns: vec![
            "case",
            "statements/min",
            "commits/min",
            "daemon CPU ms/min",
        ],
        notes: vec![
            "Commits include PostgreSQL's own (autovacuum); on the own database also the two looks of this program.".into(),
        ],
        ..Report::default()
    };
    for one in all {
        one.end(options.seconds, &mut report).await?;
    }
    server.stop().await;
    Ok((report, machine))
}
