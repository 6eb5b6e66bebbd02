//! A Supabase project for daemons: the embedded stack over a database of its own.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rowcall::system::{RandomIds, SystemClock};
use rowcall_backend::migrate::{self, MigrateOptions};
use rowcall_core::Clock as _;
use rowcall_stack::{
    auth::Keys,
    bootstrap,
    realtime::{Limits, Slot},
    stack::{RealtimeSettings, Stack, StackConfig, loopback},
    testing::TestDb,
};
use tokio_postgres::Client;

/// A project that daemons know by URL and key only.
pub(crate) struct Project {
    pub(crate) stack: Stack,
    pub(crate) keys: Keys,
    /// Somebody else's session in its database.
    pub(crate) client: Client,
    _db: TestDb,
}

impl Project {
    /// A project that `rowcall setup` has prepared, without row level security: the operator chose open access, so that an
    /// anon key is enough.
    pub(crate) async fn open() -> Self {
        let project = Self::start().await;
        let open = "alter table rtx_activities disable row level security; grant all on rtx_activities to anon";
        project.client.batch_execute(open).await.expect("opened");
        project
    }

    /// A project that `rowcall setup` has prepared.
    pub(crate) async fn start() -> Self {
        Self::with(migrated).await
    }

    /// A project as it comes.
    pub(crate) async fn empty() -> Self {
        Self::with(async |_| {}).await
    }

    /// A project whose access tokens live this long.
    pub(crate) async fn with_tokens_for(lifetime: Duration) -> Self {
        Self::configured(migrated, |config| {
            config.auth.token_lifetime = lifetime;
        })
        .await
    }

    /// A project whose Realtime refuses presence.
    pub(crate) async fn without_presence() -> Self {
        Self::configured(migrated, |config| {
            if let Some(realtime) = &mut config.realtime {
                realtime.limits.presences_per_topic = 0;
            }
        })
        .await
    }

    async fn with(prepare: impl AsyncFnOnce(&mut Client)) -> Self {
        Self::configured(prepare, |_| {}).await
    }

    async fn configured(
        prepare: impl AsyncFnOnce(&mut Client),
        change: impl FnOnce(&mut StackConfig),
    ) -> Self {
        let db = TestDb::create().await;
        let mut client = db.connect().await;
        bootstrap::apply(&client)
            .await
            .expect("roles and the publication");
        prepare(&mut client).await;
        let keys = Keys::generate(now());
        let mut config = StackConfig::new(db.url(), keys.clone(), Arc::new(SystemClock));
        config.bind = loopback(0);
        config.bootstrap = false;
        config.realtime = Some(RealtimeSettings {
            ids: Arc::new(RandomIds),
            limits: Limits::default(),
            slot: Some(Slot::Temporary),
            private_only: false,
        });
        change(&mut config);
        let stack = Stack::start(config).await.expect("the stack starts");
        Self {
            stack,
            keys,
            client,
            _db: db,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.stack.url().to_owned()
    }
}

async fn migrated(client: &mut Client) {
    migrate::apply(client, MigrateOptions::default())
        .await
        .expect("migrated");
}

fn now() -> Timestamp {
    SystemClock.now()
}
