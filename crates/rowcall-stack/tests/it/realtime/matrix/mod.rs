//! Who may see, send and track what, over every way in: tables of expectations, every cell tried.
//!
//! `rest::matrix` does the same for REST.

mod changes;
mod topics;
mod who;

use rowcall_realtime::Version;

use super::client::Client;
use super::server::Server;
use who::Who;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_and_expired_tokens_open_no_socket() {
    let server = Server::without_changes().await;
    for who in [Who::Forged, Who::Expired] {
        let token = who.token(&server);
        let refused = Client::try_connect(&server, Version::V2, &token).await;
        let Err(tokio_tungstenite::tungstenite::Error::Http(answer)) = refused else {
            panic!("{who:?} is let in");
        };
        assert_eq!(answer.status().as_u16(), 401, "{who:?}");
    }
    // Unsigned, and signed with the secret by another algorithm's name.
    let (header, rest) = server.keys.anon_key().split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    for token in [
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
    ] {
        let refused = Client::try_connect(&server, Version::V2, &token).await;
        assert!(refused.is_err(), "{token}");
    }
}
