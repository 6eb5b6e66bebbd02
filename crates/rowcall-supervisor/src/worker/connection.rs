//! One running worker process with its pipes.

use std::{process::ExitStatus, time::Duration};

use rowcall_core::ports::OutputStream;
use tokio::{
    io::AsyncWriteExt,
    process::ChildStdin,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::protocol::ToWorker;
use crate::{
    child::{Launch, Running},
    error::LaunchError,
    options::Limits,
    output::{LineSplitter, Tail, each_line},
    supervisor::Supervisor,
};

/// Lines that were read and not yet looked at.
const LINE_QUEUE: usize = 64;

/// Messages for one task at most: the task itself and its cancellation.
const MESSAGES_PER_TASK: usize = 2;

/// Hello and shutdown, and room.
const OTHER_MESSAGES: usize = 8;

/// What comes out of a worker.
#[derive(Debug)]
pub(super) enum Event {
    /// A line of output, cut to the limits.
    Line {
        stream: OutputStream,
        bytes: Vec<u8>,
        total: u64,
    },
    /// It no longer reads.
    StdinClosed,
    /// The program has ended; lines may still follow.
    Ended,
}

/// A worker process. Reading and writing go on in tasks of their own, so that a worker that does not read cannot keep us
/// from reading what it writes.
#[derive(Debug)]
pub(super) struct Connection {
    /// Until it is closed.
    running: Option<Running>,
    events: mpsc::Receiver<Event>,
    outgoing: Option<mpsc::Sender<String>>,
    /// Aborted when this is dropped.
    _pumps: JoinSet<()>,
    pub(super) stderr: Tail,
    pub(super) stdout: Tail,
}

impl Connection {
    pub(super) fn open(
        supervisor: &Supervisor,
        launch: &Launch,
        concurrency: usize,
    ) -> Result<Self, LaunchError> {
        let limits = supervisor.options().limits;
        let (running, pipes) = supervisor.spawn(launch)?;
        let (events_tx, events) = mpsc::channel(LINE_QUEUE);
        let (outgoing, outgoing_rx) =
            mpsc::channel(concurrency * MESSAGES_PER_TASK + OTHER_MESSAGES);
        let mut pumps = JoinSet::new();
        pumps.spawn(read(
            pipes.stdout,
            OutputStream::Stdout,
            limits,
            events_tx.clone(),
        ));
        pumps.spawn(read(
            pipes.stderr,
            OutputStream::Stderr,
            limits,
            events_tx.clone(),
        ));
        if let Some(stdin) = pipes.stdin {
            pumps.spawn(write(stdin, outgoing_rx, events_tx));
        }
        Ok(Self {
            running: Some(running),
            events,
            outgoing: Some(outgoing),
            _pumps: pumps,
            stderr: Tail::default(),
            stdout: Tail::default(),
        })
    }

    /// Queues a message. `false` when the worker can no longer be told anything.
    pub(super) fn send(&self, message: &ToWorker<'_>) -> bool {
        self.outgoing
            .as_ref()
            .is_some_and(|outgoing| outgoing.try_send(message.line()).is_ok())
    }

    /// The next thing that happens. Safe to cancel.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            biased;
            // Lines first: an answer that was written before the end counts.
            Some(event) = self.events.recv() => {
                self.remember(&event);
                event
            }
            () = ended(self.running.as_mut()) => Event::Ended,
        }
    }

    /// After [`Connection::close`]: the lines that were still in the pipes, until `deadline`.
    pub(super) async fn rest(&mut self, deadline: Instant) -> Option<Event> {
        let event = timeout_at(deadline, self.events.recv()).await.ok()??;
        self.remember(&event);
        Some(event)
    }

    fn remember(&mut self, event: &Event) {
        if let Event::Line { stream, bytes, .. } = event {
            let tail = match stream {
                OutputStream::Stdout => &mut self.stdout,
                OutputStream::Stderr => &mut self.stderr,
            };
            tail.push(bytes);
            tail.push(b"\n");
        }
    }

    /// Ends whatever lives, politely first.
    pub(super) async fn stop(&mut self, grace: Duration) {
        if let Some(running) = &mut self.running {
            running.stop(grace).await;
        }
    }

    /// Says `shutdown`, closes standard input, and gives the worker `grace` to exit.
    pub(super) async fn shutdown(&mut self, grace: Duration) {
        self.send(&ToWorker::Shutdown);
        self.outgoing = None;
        let deadline = Instant::now() + grace;
        // Its last words are read and dropped, or it might block on them.
        while let Ok(event) = timeout_at(deadline, self.next()).await {
            if matches!(event, Event::Ended) {
                break;
            }
        }
    }

    /// Ends what is left behind, says how it ended. [`Connection::rest`] still gives the lines in the pipes.
    pub(super) async fn close(&mut self) -> Option<ExitStatus> {
        self.outgoing = None;
        let running = self.running.take()?;
        Some(running.finish().await)
    }
}

async fn ended(running: Option<&mut Running>) {
    if let Some(running) = running {
        running.ended().await;
    }
}

async fn read(
    source: impl tokio::io::AsyncRead + Unpin,
    stream: OutputStream,
    limits: Limits,
    events: mpsc::Sender<Event>,
) {
    let object_bytes = match stream {
        OutputStream::Stdout => limits.result_bytes.max(limits.line_bytes),
        OutputStream::Stderr => limits.line_bytes,
    };
    let splitter = LineSplitter::new(limits.line_bytes, object_bytes);
    each_line(source, splitter, |bytes, total| {
        let events = events.clone();
        async move {
            let line = Event::Line {
                stream,
                bytes,
                total,
            };
            // Nobody listens any more: the pipe is still emptied, so that the worker can end.
            let _ = events.send(line).await;
        }
    })
    .await;
}

async fn write(
    mut stdin: ChildStdin,
    mut lines: mpsc::Receiver<String>,
    events: mpsc::Sender<Event>,
) {
    while let Some(line) = lines.recv().await {
        if stdin.write_all(line.as_bytes()).await.is_err() {
            let _ = events.send(Event::StdinClosed).await;
            return;
        }
    }
}
