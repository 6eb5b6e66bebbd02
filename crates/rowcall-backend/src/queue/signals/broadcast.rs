//! Wake-ups over a Realtime channel, and this worker's presence on it. The queues are looked at through the pool.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rowcall_core::Signal;
use rowcall_realtime::{
    channel::{self, ChannelSpec, Event},
    client::{Client, Sender},
};
use tokio::time::{Instant, sleep_until};

use super::{
    Unwanted, Watching,
    wake::Wake,
    watch::{Looked, Watch},
};
use crate::queue::{meters::ChannelMeters, realtime::Broadcast, view::Due};

impl Watching {
    /// Watches over a channel for as long as somebody listens. The client reconnects by itself; meanwhile queues are polled.
    pub(super) async fn watch_channel(
        &mut self,
        client: &Client,
        broadcast: &Broadcast,
    ) -> Result<(), Unwanted> {
        let mut spec = ChannelSpec::new(&broadcast.channel).presence("");
        if broadcast.private {
            spec = spec.private();
        }
        let mut channel = match client.join(spec).await {
            Ok(channel) => channel,
            Err(error) => {
                // Two streams of one client, or a client that was shut down: queues are polled all the same.
                tracing::error!(%error, "the channel of wake-ups cannot be joined; queues are polled");
                return self.poll_for_ever().await;
            }
        };
        let (start, sender) = (Instant::now(), channel.sender());
        let meters = ChannelMeters::of("realtime");
        let mut present = channel.present();
        present.mark_changed();
        let mut watch = Watch::new(self.rhythm(), false, Duration::ZERO);
        watch.set_busy(*self.busy.borrow_and_update(), Duration::ZERO);
        let mut tell: BTreeSet<usize> = BTreeSet::new();
        self.presence.mark_changed();
        loop {
            // Every branch is cancel safe: events, flags and permits stay until they are taken.
            tokio::select! {
                event = channel.next() => match event {
                    Some(event) => {
                        match &event {
                            Event::Up => meters.up(true),
                            Event::Down { .. } => meters.lost(),
                            _ => {}
                        }
                        self.heard(event, broadcast, &mut watch, start).await?;
                    }
                    None => return self.poll_for_ever().await,
                },
                Ok(()) = self.presence.changed() => self.track(&sender).await,
                Ok(()) = present.changed() => {
                    self.present.send_replace(Arc::clone(&present.borrow_and_update()));
                }
                changed = self.backend.changed() => {
                    tell.extend(changed);
                    watch.changed(start.elapsed());
                }
                Ok(()) = self.busy.changed() => {
                    watch.set_busy(*self.busy.borrow_and_update(), start.elapsed());
                }
                () = self.signals.closed() => return Err(Unwanted),
                () = sleep_until(start + watch.next()) => {
                    let due = self.look(&mut watch, start).await?;
                    for queue in std::mem::take(&mut tell) {
                        let news = self.news(queue, &due);
                        if let Err(error) = sender.broadcast(&broadcast.event, &news).await {
                            tracing::debug!(%error, "nobody was told about messages that come back");
                        }
                    }
                }
            }
        }
    }

    /// Something happened on the channel.
    async fn heard(
        &mut self,
        event: Event,
        broadcast: &Broadcast,
        watch: &mut Watch,
        start: Instant,
    ) -> Result<(), Unwanted> {
        match event {
            Event::Up => {
                watch.set_wakes(true, start.elapsed());
                self.send(Signal::Up).await
            }
            Event::Down {
                reason, retry_in, ..
            } => {
                watch.set_wakes(false, start.elapsed());
                self.send(Signal::Down { reason, retry_in }).await
            }
            Event::Lagged { .. } => {
                watch.set_wakes(true, start.elapsed());
                Ok(())
            }
            Event::Broadcast(message) if message.event == broadcast.event => {
                self.woken(&message, watch, start).await
            }
            Event::Broadcast(_) | Event::Change(_) | Event::Presence(_) => Ok(()),
        }
    }

    /// A wake-up. Anybody may have sent it, so it only says where to look; those of foreign queues say nothing here.
    async fn woken(
        &mut self,
        message: &channel::Broadcast,
        watch: &mut Watch,
        start: Instant,
    ) -> Result<(), Unwanted> {
        let Ok(wake) = message.payload.read::<Wake>() else {
            return Ok(());
        };
        let Some(queue) = self.backend.queue_of_wake(&wake) else {
            return Ok(());
        };
        self.backend.inner.meters[queue].wakes.increment(1);
        watch.gated(
            start.elapsed(),
            Duration::from_millis(wake.gate_ms.min(60_000)),
        );
        if wake.visible_in().is_zero() {
            self.dirty(queue).await?;
        } else {
            self.backend.note_return(queue, wake.visible_in());
        }
        Ok(())
    }

    async fn track(&mut self, sender: &Sender) {
        let presence = self.presence.borrow_and_update().clone();
        if let Some(presence) = presence
            && let Err(error) = sender.track(&presence).await
        {
            tracing::debug!(%error, "the presence of this worker could not be told");
        }
    }

    /// Looks at the queues through the pool and says which have messages. An error is waited out: the next look comes.
    async fn look(&mut self, watch: &mut Watch, start: Instant) -> Result<Vec<Due>, Unwanted> {
        let now = start.elapsed();
        watch.begin(now);
        let layout = self.backend.layout();
        let queues: Vec<usize> = (0..layout.tables.len())
            .filter(|queue| layout.tables[*queue].queue)
            .collect();
        let found = async {
            self.backend.reload_if_incomplete().await?;
            self.backend.due(&queues).await
        };
        let due = found.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the queues could not be looked at");
            Vec::new()
        });
        let looked = Looked {
            ready: due.iter().any(|due| due.ready && due.known),
            next: due.iter().filter_map(|due| due.next).min(),
            // Broadcasts have no gate of ours to arm and no transactions to wait for: the sender's gate is on the clock.
            xmin: 0,
            xmax: 0,
            armed: true,
        };
        watch.looked(now, looked);
        for due in due.iter().filter(|due| due.ready) {
            self.dirty(due.queue).await?;
        }
        Ok(due)
    }

    /// What is left without a channel.
    pub(super) async fn poll_for_ever(&mut self) -> Result<(), Unwanted> {
        let start = Instant::now();
        let mut watch = Watch::new(self.rhythm(), false, Duration::ZERO);
        loop {
            tokio::select! {
                // Nobody can be told, but there is a new time to look at.
                _ = self.backend.changed() => watch.changed(start.elapsed()),
                () = self.signals.closed() => return Err(Unwanted),
                () = sleep_until(start + watch.next()) => {
                    self.look(&mut watch, start).await?;
                }
            }
        }
    }
}
