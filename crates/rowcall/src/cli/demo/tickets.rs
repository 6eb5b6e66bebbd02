//! Inserting tickets and telling what became of them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rowcall_core::TaskId;
use serde::Serialize;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{files::Ticket, watch::Watch};
use crate::{daemon::Daemon, output};

/// How many tickets are inserted one by one, each when the one before is done: that is what waking up costs.
const ONE_BY_ONE: usize = 12;

/// The demo gives up when no ticket is finished for this long.
const PATIENCE: Duration = Duration::from_mins(1);

/// What became of one ticket.
#[derive(Debug, Serialize)]
struct Line {
    subject: String,
    category: Option<String>,
    priority: Option<String>,
    state: String,
    /// From the end of the insert's commit to the claim.
    wake_up_ms: Option<f64>,
    /// From the start of the agent to its settled result.
    run_ms: Option<f64>,
    /// Inserted alone, or in the burst.
    alone: bool,
}

/// What became of all of them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    tickets: Vec<Line>,
    /// From the commit of the burst until its last ticket was done.
    burst_seconds: f64,
}

struct Inserted {
    id: Uuid,
    subject: String,
    committed: Instant,
    alone: bool,
}

pub(super) async fn run(daemon: &Daemon, tickets: &[Ticket]) -> anyhow::Result<Report> {
    let mut client = crate::cli::connect(daemon.addresses().database()?).await?;
    let mut watch = Watch::new(daemon.engine().events());
    let progress = bar(tickets.len());
    let tick = |ended: usize| progress.set_position(ended as u64);
    let (alone, burst) = tickets.split_at(tickets.len().min(ONE_BY_ONE));
    let mut inserted = Vec::with_capacity(tickets.len());
    for (index, ticket) in alone.iter().enumerate() {
        let id = insert(&client, ticket).await?;
        let (subject, committed) = (ticket.subject.clone(), Instant::now());
        inserted.push(Inserted {
            id,
            subject,
            committed,
            alone: true,
        });
        progress.set_message(output::shorten(&ticket.subject, 40));
        if !watch.until_ended(index + 1, PATIENCE, tick).await {
            bail!(
                "no ticket was finished for {} seconds: `rowcall task list` shows where they are",
                PATIENCE.as_secs()
            );
        }
    }
    let transaction = client.transaction().await?;
    let mut ids = Vec::with_capacity(burst.len());
    for ticket in burst {
        ids.push(insert(&transaction, ticket).await?);
    }
    transaction.commit().await?;
    let committed = Instant::now();
    let burst_tickets = ids.into_iter().zip(burst);
    inserted.extend(burst_tickets.map(|(id, ticket)| Inserted {
        id,
        subject: ticket.subject.clone(),
        committed,
        alone: false,
    }));
    progress.set_message("the rest at once");
    if !watch.until_ended(tickets.len(), PATIENCE, tick).await {
        bail!(
            "no ticket was finished for {} seconds: `rowcall task list` shows where they are",
            PATIENCE.as_secs()
        );
    }
    let burst_seconds = committed.elapsed().as_secs_f64();
    progress.finish_and_clear();
    let mut lines = Vec::with_capacity(inserted.len());
    for ticket in inserted {
        lines.push(line(&client, &watch, ticket).await?);
    }
    Ok(Report {
        tickets: lines,
        burst_seconds,
    })
}

pub(super) async fn insert(
    client: &impl tokio_postgres::GenericClient,
    ticket: &Ticket,
) -> anyhow::Result<Uuid> {
    let sql = "insert into public.support_tickets (customer_email, subject, message) values ($1, $2, $3) returning id";
    let row = client
        .query_one(
            sql,
            &[&ticket.customer_email, &ticket.subject, &ticket.message],
        )
        .await?;
    Ok(row.get(0))
}

async fn line(client: &Client, watch: &Watch, ticket: Inserted) -> anyhow::Result<Line> {
    let sql = "select t.category, t.priority, a.id, a.status from public.support_tickets t \
               left join public.rtx_activities a on a.source_table = 'public.support_tickets' and a.raw_data ->> 'id' = t.id::text \
               where t.id = $1 order by a.created_at desc limit 1";
    let row = client
        .query_one(sql, &[&ticket.id])
        .await
        .context("cannot read the ticket back")?;
    let task: Option<Uuid> = row.get(2);
    let moments = task
        .map(|id| watch.of(&TaskId::Uuid(id)))
        .unwrap_or_default();
    let ms = |from: Option<Instant>, to: Option<Instant>| {
        Some(to?.saturating_duration_since(from?).as_secs_f64() * 1000.0)
    };
    Ok(Line {
        subject: ticket.subject,
        category: row.get(0),
        priority: row.get(1),
        state: row
            .get::<_, Option<String>>(3)
            .unwrap_or_else(|| "no task".to_owned()),
        wake_up_ms: ms(Some(ticket.committed), moments.claimed),
        run_ms: ms(moments.started, moments.ended),
        alone: ticket.alone,
    })
}

fn bar(count: usize) -> ProgressBar {
    let progress = ProgressBar::new(count as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        progress.set_style(style);
    }
    progress
}

impl Report {
    pub(super) fn all_completed(&self) -> bool {
        self.tickets.iter().all(|line| line.state == "completed")
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            output::json(self)?;
            return Ok(());
        }
        let ms = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
        };
        let rows: Vec<_> = self
            .tickets
            .iter()
            .map(|line| {
                [
                    output::shorten(&line.subject, 44),
                    line.category.clone().unwrap_or_else(|| "-".to_owned()),
                    line.priority.clone().unwrap_or_else(|| "-".to_owned()),
                    line.state.clone(),
                    if line.alone {
                        ms(line.wake_up_ms)
                    } else {
                        "burst".to_owned()
                    },
                    ms(line.run_ms),
                ]
            })
            .collect();
        output::table(
            [
                "TICKET",
                "CATEGORY",
                "PRIORITY",
                "TASK",
                "WAKE-UP ms",
                "RUN ms",
            ],
            &rows,
        )?;
        let alone = || self.tickets.iter().filter(|line| line.alone);
        output::line("")?;
        output::line(format_args!(
            "{} of {} tickets completed",
            self.tickets
                .iter()
                .filter(|line| line.state == "completed")
                .count(),
            self.tickets.len()
        ))?;
        output::line(format_args!(
            "wake-up, commit to claim:    {}",
            quantiles(alone().filter_map(|line| line.wake_up_ms).collect())
        ))?;
        output::line(format_args!(
            "run, agent start to result:  {}",
            quantiles(self.tickets.iter().filter_map(|line| line.run_ms).collect())
        ))?;
        let burst = self.tickets.iter().filter(|line| !line.alone).count();
        if burst > 0 {
            output::line(format_args!(
                "burst of {burst}:                {:.2} s until the last was done",
                self.burst_seconds
            ))?;
        }
        Ok(())
    }
}

/// Median, 95th percentile and maximum, in milliseconds.
fn quantiles(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let Some(max) = values.last() else {
        return "-".to_owned();
    };
    let at = |percent: usize| values[(values.len() - 1) * percent / 100];
    format!(
        "p50 {:.1} ms, p95 {:.1} ms, max {max:.1} ms",
        at(50),
        at(95)
    )
}
