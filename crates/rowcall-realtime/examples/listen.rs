//! Prints what happens to a table, and stays connected: cut the network, restart the server, it comes back.
//!
//! ```text
//! cargo run -p rowcall-realtime --example listen -- http://127.0.0.1:54321 <anon key> public.tickets
//! ```

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{env, error::Error};

use rowcall_realtime::{
    channel::{ChangeFilter, ChannelSpec, Event},
    client::{Client, Config},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, key, table] = &arguments[..] else {
        return Err("usage: listen <url> <key> <schema.table>".into());
    };
    let (schema, table) = table.split_once('.').unwrap_or(("public", table));

    let (client, driver) = Client::new(Config::new(url, key.as_str())?);
    let driver = tokio::spawn(driver.run());
    let spec = ChannelSpec::new("listen").changes(ChangeFilter::table(schema, table));
    let mut channel = client.join(spec).await?;
    while let Some(event) = channel.next().await {
        match event {
            Event::Up => println!("live: look now for what happened before"),
            Event::Lagged { dropped } => println!("{dropped} events missed: look for yourself"),
            Event::Down {
                reason, retry_in, ..
            } => println!("down: {reason}; next try in {retry_in:?}"),
            Event::Change(change) => {
                let row = change.record.or(change.old_record);
                println!("{} {}", change.kind.as_str(), row.unwrap_or_default());
            }
            Event::Broadcast(_) | Event::Presence(_) => {}
        }
    }
    driver.await?;
    Ok(())
}
