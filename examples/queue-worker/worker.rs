//! A queue worker in Rust: typed handlers, retries, a dead letter queue, a clean stop.
//!
//! ```sh
//! cargo run -p rowcall-backend --example queue-worker -- postgres://postgres@127.0.0.1:54322/postgres
//! ```
//!
//! It installs pgmq where it is missing, makes the queues, sends a few messages and handles them until Ctrl-C. Messages from
//! anywhere else are welcome: `select pgmq.send('emails', '{"to": "ada@example.com", "subject": "Hello"}')` in psql, pgmq-js,
//! supabase-js, AIMQ.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to the terminal"
)]

use std::time::Duration;

use rowcall_backend::queue::{
    Database, Finish, Install, Job, JobError, QueueName, QueueOptions, QueueStore, Worker, install,
};
use rowcall_core::Payload;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// A message of the queue `emails`.
#[derive(Debug, Serialize, Deserialize)]
struct Email {
    to: String,
    subject: String,
}

/// A message of the queue `thumbnails`.
#[derive(Debug, Deserialize)]
struct Thumbnail {
    path: String,
    #[serde(default = "Thumbnail::default_width")]
    width: u32,
}

impl Thumbnail {
    fn default_width() -> u32 {
        320
    }
}

/// Delivery is at least once: the key makes the second of two deliveries harmless at the mail provider.
async fn send_email(job: Job<Email>) -> Result<(), JobError> {
    if !job.data.to.contains('@') {
        return Err(JobError::from(format!("{:?} is no address", job.data.to)));
    }
    if job.data.subject.is_empty() && job.attempt == 1 {
        return Err(JobError::retry_in(
            "the provider is busy",
            Duration::from_secs(1),
        ));
    }
    tokio::time::sleep(Duration::from_millis(50)).await; // the provider's answer
    println!(
        "sent to {} ({}, attempt {})",
        job.data.to,
        job.idempotency_key(),
        job.attempt
    );
    Ok(())
}

async fn make_thumbnail(job: Job<Thumbnail>) -> Result<(), JobError> {
    println!("{} at {} pixels", job.data.path, job.data.width);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .or_else(|| std::env::var("DATABASE_URL").ok());
    let url = url.ok_or("give the URL of a database, or set DATABASE_URL")?;
    let database = Database::new(&url, 4)?;
    install(&database, Install::default()).await?;

    let dead = QueueName::new("emails-dead")?;
    let worker = Worker::builder()
        .queue("emails")
        .with(|spec| {
            spec.visibility(Duration::from_secs(30))
                .max_attempts(3)
                .dead_letters(dead)
        })
        .handler(send_email)
        .queue("thumbnails")
        .with(|spec| spec.priority(-1).concurrency(2).finish(Finish::Delete))
        .handler(make_thumbnail)
        .options(QueueOptions {
            create_missing: true,
            ..QueueOptions::default()
        })
        .on_error(|failure| {
            eprintln!(
                "{} {}: {}",
                failure.queue, failure.id, failure.error.message
            );
        })
        .concurrency(20)
        .open(database.clone())
        .await?;

    let store = QueueStore::new(database);
    for queue in ["emails", "thumbnails"] {
        store.enable_wake(&QueueName::new(queue)?).await?;
    }
    for (to, subject) in [
        ("ada@example.com", "Hello"),
        ("grace@example.com", ""),
        ("nobody", "Lost"),
    ] {
        let email = Email {
            to: to.to_owned(),
            subject: subject.to_owned(),
        };
        store
            .send(
                &QueueName::new("emails")?,
                &Payload::from_value(&email)?,
                Duration::ZERO,
            )
            .await?;
    }
    let message = Payload::from_text(r#"{"path": "cat.png"}"#.to_owned())?;
    store
        .send(&QueueName::new("thumbnails")?, &message, Duration::ZERO)
        .await?;

    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        // What runs gets ten seconds to finish; what does not is given back.
        drop(tokio::signal::ctrl_c().await);
        asked.cancel();
    });
    worker.run(stop).await;
    Ok(())
}
