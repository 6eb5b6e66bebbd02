//! The OpenAPI document: served as it is built, and changed only on purpose.

use super::world::{As, World};

#[test]
fn the_document_changes_only_on_purpose() {
    insta::assert_snapshot!(rowcall::api::openapi().to_pretty_json().unwrap());
}

#[tokio::test]
async fn it_is_served_without_a_credential() {
    let world = World::start().await;
    let (status, served) = world.get("/rowcall/v1/openapi.json", As::Nobody).await;
    assert_eq!(status, 200);
    assert_eq!(
        served,
        serde_json::to_value(rowcall::api::openapi()).unwrap()
    );
    world.daemon.stop().await;
}
