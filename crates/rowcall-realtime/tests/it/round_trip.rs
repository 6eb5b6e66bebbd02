use proptest::prelude::*;
use rowcall_realtime::binary::{Encoding, UserBroadcast, UserPush};
use rowcall_realtime::{Frame, Outgoing, Version};

fn versions() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1), Just(Version::V2)]
}

fn encodings() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Binary), Just(Encoding::Json)]
}

/// Texts that fit a length byte, of any characters.
fn short() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("fits a length byte", |text| text.len() <= 255)
}

proptest! {
    #[test]
    fn text_frames_come_back_as_they_were(
        version in versions(),
        join_ref in proptest::option::of(any::<String>()),
        reference in proptest::option::of(any::<String>()),
        topic in any::<String>(),
        event in any::<String>(),
        payload in any::<String>(),
    ) {
        let payload = rowcall_realtime::frame::json_string(&payload);
        let outgoing = Outgoing {
            join_ref: join_ref.as_deref(),
            reference: reference.as_deref(),
            topic: &topic,
            event: &event,
            payload: &payload,
        };
        let text = outgoing.encode_from_client(version);
        let frame = Frame::decode(version, &text)?;
        prop_assert_eq!(&frame.join_ref, &join_ref);
        prop_assert_eq!(&frame.reference, &reference);
        prop_assert_eq!(frame.topic.as_ref(), &topic);
        prop_assert_eq!(frame.event.as_ref(), &event);
        prop_assert_eq!(frame.payload.get(), &payload);
    }

    #[test]
    fn a_server_frame_of_version_one_has_four_keys(topic in any::<String>(), event in any::<String>()) {
        let push = Outgoing { join_ref: Some("7"), reference: None, topic: &topic, event: &event, payload: "{}" };
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&push.encode(Version::V1))?;
        let keys: Vec<_> = object.keys().map(String::as_str).collect();
        prop_assert_eq!(keys, ["event", "payload", "ref", "topic"]);
    }

    #[test]
    fn pushes_come_back_as_they_were(
        join_ref in short(), reference in short(), topic in short(), event in short(), meta in short(),
        encoding in encodings(), payload in any::<Vec<u8>>(),
    ) {
        let push = UserPush {
            join_ref: &join_ref, reference: &reference, topic: &topic, event: &event, meta: &meta,
            encoding, payload: &payload,
        };
        let frame = push.encode()?;
        prop_assert_eq!(UserPush::decode(&frame)?, push);
    }

    #[test]
    fn broadcasts_come_back_as_they_were(
        topic in short(), event in short(), meta in short(), encoding in encodings(), payload in any::<Vec<u8>>(),
    ) {
        let broadcast = UserBroadcast { topic: &topic, event: &event, meta: &meta, encoding, payload: &payload };
        let frame = broadcast.encode()?;
        prop_assert_eq!(UserBroadcast::decode(&frame)?, broadcast);
    }
}
