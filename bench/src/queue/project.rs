//! A Supabase-compatible project over a database of the run.

use std::sync::Arc;

use anyhow::Result;
use rowcall_backend::queue::{Database, Install, install};
use rowcall_core::Clock as _;
use rowcall_realtime::client::{Client, Config};
use rowcall_stack::{
    auth::Keys,
    bootstrap,
    realtime::{Limits, Slot},
    stack::{RealtimeSettings, Stack, StackConfig, loopback},
};

use crate::{
    server::connect,
    system::{RandomIds, SystemClock},
};

/// The project while it is served.
pub(super) struct Project {
    pub(super) stack: Stack,
    pub(super) keys: Keys,
}

impl Project {
    pub(super) async fn start(url: &str) -> Result<Self> {
        let client = connect(url).await?;
        bootstrap::apply(&client).await?;
        // Once more: now there are roles to give rights to.
        install(&Database::new(url, 1)?, Install::default()).await?;
        let keys = Keys::generate(SystemClock.now());
        let mut config = StackConfig::new(url, keys.clone(), Arc::new(SystemClock));
        config.bind = loopback(0);
        config.realtime = Some(RealtimeSettings {
            ids: Arc::new(RandomIds),
            limits: Limits::default(),
            slot: Some(Slot::Temporary),
            private_only: false,
        });
        let stack = Stack::start(config).await?;
        Ok(Self { stack, keys })
    }

    /// A Realtime client that stays connected.
    pub(super) fn client(&self) -> Result<Client> {
        let config = Config::new(self.stack.url(), self.keys.service_role_key())?;
        let (client, driver) = Client::new(config);
        tokio::spawn(driver.run());
        Ok(client)
    }
}
