//! `rowcall worker`

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use rowcall_backend::queue::Finish;

use super::{
    Context,
    serve::{Stop, run_until},
};
use crate::{
    api::METRICS_PATH,
    config::{RunKind, Span, WakeBy, WorkerQueue},
    daemon::WorkerDaemon,
    exit::{Exit, UserError},
    output,
};

/// Read queues of pgmq and have a program or a web service handle their messages.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: rowcall worker --queue incoming-messages --queue emails -- python3 worker.py

Without --queue, all of [worker.queues] in the configuration are read; with it, only those named. What stands there about a
queue counts, and the options here go above it. AIMQ's environment variables are honoured (SUPABASE_URL, DATABASE_URL, …); without
a database, SUPABASE_URL and SUPABASE_KEY are enough.")]
pub struct Worker {
    /// Read this queue; may be repeated
    #[arg(long = "queue", short = 'Q', value_name = "NAME")]
    queues: Vec<String>,
    /// Post messages to this web service instead of running a program
    #[arg(long, value_name = "URL", conflicts_with = "run")]
    url: Option<String>,
    /// The environment variable whose value the web service is sent as a bearer token
    #[arg(long, value_name = "VARIABLE", requires = "url")]
    token_env: Option<String>,
    /// Keep the program warm and feed it lines of JSON, or start it for every message
    #[arg(long, value_name = "KIND")]
    kind: Option<RunKind>,
    /// The visibility time-out, such as 5m: the lease on a message, renewed while it is handled; 0s pops messages
    #[arg(long, value_name = "SPAN")]
    timeout: Option<Span>,
    /// Fail attempts that take longer
    #[arg(long, value_name = "SPAN")]
    time_limit: Option<Span>,
    /// Delete handled messages instead of archiving them
    #[arg(long)]
    delete: bool,
    /// Give a message up after this many attempts; 0 tries for ever
    #[arg(long, value_name = "N")]
    max_retries: Option<u32>,
    /// Send messages that were given up to this queue
    #[arg(long, value_name = "NAME", visible_alias = "dlq")]
    dead_letters: Option<String>,
    /// Try failed messages again after this, doubling, instead of when their time-out runs out
    #[arg(long, value_name = "SPAN")]
    retry_after: Option<Span>,
    /// Messages in work at a time
    #[arg(long, short, value_name = "N")]
    concurrency: Option<u32>,
    /// What others see of this worker; two on one data directory need different names
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How it is woken
    #[arg(long, value_name = "HOW")]
    wake: Option<WakeBy>,
    /// How often to look while nothing wakes it
    #[arg(long, value_name = "SPAN")]
    idle_wait: Option<Span>,
    /// Change nothing in the database: no pgmq, queue or trigger is made
    #[arg(long)]
    no_setup: bool,
    /// Serve numbers for Prometheus at this address, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Where the program runs
    #[arg(long, value_name = "DIR")]
    working_dir: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    run: Vec<String>,
}

impl Worker {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<Exit> {
        context.use_aimq_database();
        self.configure(&mut context)?;
        let stop = Stop::new()?;
        let daemon = WorkerDaemon::start(&context.config).await?;
        let queues: Vec<&str> = context
            .config
            .worker
            .queues
            .keys()
            .map(String::as_str)
            .collect();
        output::note(format_args!(
            "  {} reads {}",
            daemon.machine(),
            queues.join(", ")
        ));
        if let Some(address) = daemon.metrics() {
            output::note(format_args!(
                "  numbers for Prometheus: http://{address}{METRICS_PATH}"
            ));
        }
        run_until(daemon, stop).await
    }

    /// Puts the options above the configuration.
    fn configure(self, context: &mut Context) -> anyhow::Result<()> {
        let worker = &mut context.config.worker;
        worker.concurrency = self.concurrency.unwrap_or(worker.concurrency);
        worker.wake = self.wake.unwrap_or(worker.wake);
        worker.idle_wait = self.idle_wait.unwrap_or(worker.idle_wait);
        worker.setup &= !self.no_setup;
        worker.metrics = self.metrics.or(worker.metrics);
        worker.name = self.name.or_else(|| worker.name.take());
        if !self.queues.is_empty() {
            let mut known = std::mem::take(&mut worker.queues);
            for name in &self.queues {
                let queue = known.remove(name).unwrap_or_default();
                worker.queues.insert(name.clone(), queue);
            }
        }
        for queue in worker.queues.values_mut() {
            let WorkerQueue {
                run,
                kind,
                url,
                token_env,
                working_dir,
                time_limit,
                timeout,
                finish,
                max_retries,
                dead_letters,
                retry_after,
                ..
            } = queue;
            if !self.run.is_empty() {
                run.clone_from(&self.run);
                *url = None;
            } else if self.url.is_some() {
                url.clone_from(&self.url);
                token_env.clone_from(&self.token_env);
                run.clear();
            }
            *kind = self.kind.unwrap_or(*kind);
            *timeout = self.timeout.unwrap_or(*timeout);
            *time_limit = self.time_limit.unwrap_or(*time_limit);
            *working_dir = self.working_dir.clone().or_else(|| working_dir.take());
            *max_retries = self.max_retries.or(*max_retries);
            *dead_letters = self.dead_letters.clone().or_else(|| dead_letters.take());
            *retry_after = self.retry_after.or(*retry_after);
            if self.delete {
                *finish = Finish::Delete;
            }
        }
        worker
            .validate()
            .map_err(|error| UserError::of(Exit::Usage, &error).into())
    }
}
