//! Who tries.

use rowcall_realtime::Version;
use rowcall_stack::auth::Keys;
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::server::{NOW, Server};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Anon,
    Publishable,
    Ann,
    Bob,
    Service,
    Secret,
    Forged,
    Expired,
}

pub(super) const WHO: [Who; 8] = [
    Who::Anon,
    Who::Publishable,
    Who::Ann,
    Who::Bob,
    Who::Service,
    Who::Secret,
    Who::Forged,
    Who::Expired,
];

impl Who {
    pub(super) fn is_service(self) -> bool {
        matches!(self, Self::Service | Self::Secret)
    }

    pub(super) fn has_no_token(self) -> bool {
        matches!(self, Self::Forged | Self::Expired)
    }

    /// What the socket is opened with, and what a join carries.
    pub(super) fn credentials(self, server: &Server) -> (String, Option<String>) {
        let keys = &server.keys;
        let user = |name: &str| Some(server.token("authenticated", &json!({"sub": name})));
        match self {
            Self::Anon => (keys.anon_key().to_owned(), None),
            Self::Publishable => {
                let key = keys.publishable_key().to_owned();
                (key.clone(), Some(key))
            }
            Self::Ann => (keys.publishable_key().to_owned(), user("ann")),
            Self::Bob => (keys.anon_key().to_owned(), user("bob")),
            Self::Service => (keys.service_role_key().to_owned(), None),
            Self::Secret => (keys.secret_key().to_owned(), None),
            Self::Forged => {
                let stranger = Keys::generate(jiff::Timestamp::from_second(NOW).unwrap());
                let claims = json!({"role": "service_role", "sub": "ann", "exp": NOW + 3_600});
                (keys.anon_key().to_owned(), Some(stranger.sign(&claims)))
            }
            Self::Expired => {
                let token = server.token_until("service_role", NOW - 1, &json!({"sub": "ann"}));
                (keys.anon_key().to_owned(), Some(token))
            }
        }
    }

    pub(super) async fn connect(self, server: &Server) -> Client {
        Client::connect(server, Version::V2, &self.credentials(server).0).await
    }

    /// Joins; the reference of the join when it was accepted.
    pub(super) async fn join(
        self,
        server: &Server,
        client: &mut Client,
        topic: &str,
        config: Value,
    ) -> Option<String> {
        let token = self.credentials(server).1;
        let payload = json!({"config": config, "access_token": token});
        let (join_ref, reply) = client.try_join(topic, payload).await;
        (reply["status"] == "ok").then_some(join_ref)
    }

    /// What HTTP and SQL know a client by.
    pub(super) fn token(self, server: &Server) -> String {
        let (key, token) = self.credentials(server);
        token.unwrap_or(key)
    }
}

/// Reports every cell that is not as expected, at once.
#[track_caller]
pub(super) fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{wrong:#?}");
}
