//! `demo --keep`: further tickets as they are handled.

use std::{convert::Infallible, future::Future};

use rowcall_engine::{Heard, What};

use crate::{
    daemon::{Addresses, Daemon},
    output,
};

/// Says how to go on.
pub(super) fn explain(addresses: &Addresses) {
    output::note("");
    output::note("The daemon goes on. Insert more tickets from another terminal:");
    output::note(format_args!(
        "  psql \"$(rowcall --data-dir '{}' db url)\" -c \"insert into support_tickets (customer_email, subject, message) \
         values ('me@example.com', 'Refund', 'Please refund invoice 17')\"",
        addresses.data_dir.display()
    ));
    if let Some(stack) = &addresses.stack {
        output::note(format_args!(
            "REST and Realtime are at {}, the local API at {}.",
            stack.url, addresses.api_url
        ));
    }
    output::note("Ctrl-C stops it.");
    output::note("");
}

/// Prints a line for every task that ends, until the daemon's engine is gone.
pub(super) fn print_tickets(
    daemon: &Daemon,
) -> impl Future<Output = anyhow::Result<Infallible>> + use<> {
    let mut events = daemon.engine().events();
    async move {
        loop {
            let Heard::Event(event) = events.next().await else {
                continue;
            };
            match event.what {
                What::Settled {
                    task,
                    state,
                    ran_ms,
                    attempt,
                    ..
                } => {
                    output::line(format_args!(
                        "{}  {state} in {ran_ms} ms (attempt {attempt})",
                        task.id
                    ))?;
                }
                What::Failed { task, error, .. } => {
                    output::line(format_args!(
                        "{}  failed: {}",
                        task.id,
                        output::shorten(&error, 100)
                    ))?;
                }
                _ => {}
            }
        }
    }
}
