//! A load for the Realtime server, to look at its costs while working on it.
//!
//! ```text
//! realtime_load serve  <database url> <port>
//! realtime_load idle   <port> <sockets>                       memory and heartbeats
//! realtime_load fanout <port> <sockets> <messages> <senders>  broadcast, version 2
//! realtime_load changes <port> <sockets> <changes> <database url> <rls: none|role|claims>
//! ```
//!
//! The server uses the well-known keys of `supabase start`. Times are measured on one machine with one clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use rowcall_core::{Clock, IdSource};
use rowcall_stack::auth::Keys;
use rowcall_stack::bootstrap;
use rowcall_stack::realtime::{Limits, Realtime, RealtimeConfig, Slot};
use tokio::sync::Barrier;
use tokio_tungstenite::tungstenite::Message;

#[derive(Debug)]
struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "the edge")]
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

impl IdSource for System {
    #[expect(clippy::disallowed_methods, reason = "the edge")]
    fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::new_v4()
    }

    fn unit(&self) -> f64 {
        0.5
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", url, port] => serve(url, port.parse()?).await,
        ["idle", port, sockets] => idle(port, sockets.parse()?).await,
        ["fanout", port, sockets, messages, senders] => {
            fanout(port, sockets.parse()?, messages.parse()?, senders.parse()?).await
        }
        ["changes", port, sockets, count, url, rls] => {
            changes(port, sockets.parse()?, count.parse()?, url, rls).await
        }
        _ => bail!("see the head of the file"),
    }
}

async fn serve(url: &str, port: u16) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    bootstrap::apply(&client).await?;
    let realtime = Realtime::start(RealtimeConfig {
        database_url: url.to_owned(),
        keys: Arc::new(Keys::supabase_cli()),
        clock: Arc::new(System),
        ids: Arc::new(System),
        limits: Limits::default(),
        slot: Some(Slot::Temporary),
        private_only: false,
    })
    .await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let app = axum::Router::new().nest("/realtime/v1", realtime.router());
    use axum::serve::ListenerExt as _;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await?;
    Ok(())
}

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn joined(port: &str, topic: &str, config: &str, token: Option<&str>) -> Result<Socket> {
    let keys = Keys::supabase_cli();
    let key = keys.anon_key();
    let url = format!("ws://127.0.0.1:{port}/realtime/v1/websocket?apikey={key}&vsn=2.0.0");
    let (mut socket, _) = tokio_tungstenite::connect_async(url)
        .await
        .context("connect")?;
    let token = token.map_or("null".to_owned(), |token| format!("\"{token}\""));
    let join =
        format!(r#"["1","1","{topic}","phx_join",{{"config":{config},"access_token":{token}}}]"#);
    socket.send(Message::text(join)).await?;
    loop {
        let message = socket.next().await.context("closed")??;
        if let Ok(text) = message.to_text()
            && text.contains("phx_reply")
        {
            if !text.contains(r#""status":"ok""#) {
                bail!("{text}");
            }
            return Ok(socket);
        }
    }
}

async fn sockets(
    port: &str,
    count: usize,
    join: impl Fn(usize) -> (String, String, Option<String>),
) -> Result<Vec<Socket>> {
    let begin = Instant::now();
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let batch = (all.len()..count.min(all.len() + 100)).map(|n| {
            let (topic, config, token) = join(n);
            async move { joined(port, &topic, &config, token.as_deref()).await }
        });
        for socket in futures_util::future::join_all(batch).await {
            all.push(socket?);
        }
    }
    println!("{count} sockets joined in {:?}", begin.elapsed());
    Ok(all)
}

async fn idle(port: &str, count: usize) -> Result<()> {
    let mut all = sockets(port, count, |n| {
        (format!("realtime:t{n}"), "{}".to_owned(), None)
    })
    .await?;
    println!("sleeping; look at the server's memory");
    for round in 0..6 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let begin = Instant::now();
        for socket in &mut all {
            socket
                .send(Message::text(r#"[null,"1","phoenix","heartbeat",{}]"#))
                .await?;
        }
        for socket in &mut all {
            socket.next().await.context("closed")??;
        }
        println!(
            "round {round}: {count} heartbeats answered in {:?}",
            begin.elapsed()
        );
    }
    Ok(())
}

fn percentile(sorted: &[u64], part: f64) -> f64 {
    let index = ((sorted.len() - 1) as f64 * part) as usize;
    sorted[index] as f64 / 1000.0
}

/// Reads `expected` messages on each socket and collects how old they are.
async fn receive(
    all: Vec<Socket>,
    expected: usize,
    begin: Instant,
    ready: Arc<Barrier>,
) -> Result<Vec<u64>> {
    let received = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = all
        .into_iter()
        .map(|mut socket| {
            let (received, ready) = (Arc::clone(&received), Arc::clone(&ready));
            tokio::spawn(async move {
                ready.wait().await;
                let mut ages = Vec::with_capacity(expected);
                while ages.len() < expected {
                    let message = socket.next().await.context("closed")??;
                    if let Message::Close(frame) = &message {
                        bail!("closed by the server after {} of {expected}: {frame:?}", ages.len());
                    }
                    let data = message.into_data();
                    let Some(at) = stamp(&data) else { continue };
                    ages.push((begin.elapsed().as_micros() as u64).saturating_sub(at));
                    received.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, anyhow::Error>(ages)
            })
        })
        .collect();
    let mut ages = Vec::new();
    for task in tasks {
        match task.await? {
            Ok(more) => ages.extend(more),
            Err(error) => println!("{error}"),
        }
    }
    ages.sort_unstable();
    Ok(ages)
}

/// The number after `@` in a message: when it was sent.
fn stamp(data: &[u8]) -> Option<u64> {
    let start = data.iter().position(|&byte| byte == b'@')? + 1;
    let digits: Vec<u8> = data[start..]
        .iter()
        .copied()
        .take_while(u8::is_ascii_digit)
        .collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

async fn fanout(port: &str, count: usize, messages: usize, senders: usize) -> Result<()> {
    let receivers = sockets(port, count, |_| {
        ("realtime:fan".to_owned(), "{}".to_owned(), None)
    })
    .await?;
    let begin = Instant::now();
    let ready = Arc::new(Barrier::new(count + 1));
    let reading = tokio::spawn(receive(
        receivers,
        messages * senders,
        begin,
        Arc::clone(&ready),
    ));
    let sending = sockets(port, senders, |_| {
        (
            "realtime:fan".to_owned(),
            r#"{"broadcast":{"ack":true}}"#.to_owned(),
            None,
        )
    })
    .await?;
    ready.wait().await;
    let started = Instant::now();
    let sending: Vec<_> = sending
        .into_iter()
        .map(|mut socket| {
            tokio::spawn(async move {
                for _ in 0..messages {
                    let at = begin.elapsed().as_micros();
                    let payload = format!(r#"{{"at":"@{at}","text":"{}"}}"#, "x".repeat(100));
                    let push = format!(r#"["1","2","realtime:fan","broadcast",{{"type":"broadcast","event":"e","payload":{payload}}}]"#);
                    socket.send(Message::text(push)).await?;
                    // Its acknowledgement, or a message of another sender.
                    loop {
                        let message = socket.next().await.context("closed")??;
                        if message.to_text().unwrap_or_default().contains("phx_reply") {
                            break;
                        }
                    }
                }
                Ok::<_, anyhow::Error>(socket)
            })
        })
        .collect();
    for sender in sending {
        sender.await??;
    }
    let ages = reading.await??;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} sends/s, {:.0} deliveries/s, ages ms p50 {:.2} p99 {:.2} max {:.2}",
        (messages * senders) as f64 / seconds,
        ages.len() as f64 / seconds,
        percentile(&ages, 0.5),
        percentile(&ages, 0.99),
        percentile(&ages, 1.0)
    );
    Ok(())
}

async fn changes(port: &str, count: usize, changes: usize, url: &str, rls: &str) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "drop table if exists public.load; create table public.load (id int primary key generated always as identity, body text);
             grant all on public.load to anon, authenticated, service_role;
             alter publication supabase_realtime add table public.load;",
        )
        .await?;
    match rls {
        "none" => {}
        "role" => {
            client
                .batch_execute("alter table public.load enable row level security; create policy p on public.load using (id > 0)")
                .await?;
        }
        "claims" => {
            client
                .batch_execute("alter table public.load enable row level security; create policy p on public.load using (auth.jwt() ->> 'sub' is not null)")
                .await?;
        }
        _ => bail!("rls: none, role or claims"),
    }
    let keys = Keys::supabase_cli();
    let config = r#"{"postgres_changes":[{"event":"*","schema":"public","table":"load"}]}"#;
    let all = sockets(port, count, |n| {
        let claims = serde_json::json!({"role": "authenticated", "sub": n.to_string(), "exp": 1_983_812_996});
        ("realtime:load".to_owned(), config.to_owned(), Some(keys.sign(&claims)))
    })
    .await?;
    let begin = Instant::now();
    let ready = Arc::new(Barrier::new(count + 1));
    let reading = tokio::spawn(receive(all, changes, begin, Arc::clone(&ready)));
    ready.wait().await;
    let started = Instant::now();
    let insert = client
        .prepare("insert into public.load (body) values ($1)")
        .await?;
    for _ in 0..changes {
        let body = format!("@{}", begin.elapsed().as_micros());
        client.execute(&insert, &[&body]).await?;
    }
    println!("{changes} inserts in {:?}", started.elapsed());
    let ages = reading.await??;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{:.0} changes/s to {count} sockets, {:.0} deliveries/s, insert to socket ms p50 {:.2} p99 {:.2} max {:.2}",
        changes as f64 / seconds,
        ages.len() as f64 / seconds,
        percentile(&ages, 0.5),
        percentile(&ages, 0.99),
        percentile(&ages, 1.0)
    );
    Ok(())
}
