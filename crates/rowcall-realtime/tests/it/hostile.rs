use proptest::prelude::*;
use rowcall_realtime::binary::{UserBroadcast, UserPush};
use rowcall_realtime::join::{Join, binding_ids};
use rowcall_realtime::presence::Board;
use rowcall_realtime::{Frame, Version};
use serde_json::{Value, json};

/// JSON of any shape, small.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_*]{0,8}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::hash_map(keys(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Keys the decoders look for, and others.
fn keys() -> impl Strategy<Value = String> {
    let known = [
        "config",
        "broadcast",
        "presence",
        "postgres_changes",
        "private",
        "ack",
        "self",
        "replay",
        "since",
        "limit",
        "key",
        "enabled",
        "event",
        "schema",
        "table",
        "filter",
        "select",
        "metas",
        "phx_ref",
        "joins",
        "leaves",
        "id",
        "access_token",
        "user_token",
        "postgres_changes_options",
    ];
    prop_oneof![
        4 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_text_is_a_frame_or_an_error(text in any::<String>()) {
        let _ = Frame::decode(Version::V1, &text);
        let _ = Frame::decode(Version::V2, &text);
    }

    #[test]
    fn any_json_is_a_frame_or_an_error(value in values()) {
        let text = value.to_string();
        let _ = Frame::decode(Version::V1, &text);
        let _ = Frame::decode(Version::V2, &text);
    }

    #[test]
    fn any_bytes_are_a_binary_frame_or_an_error(mut bytes in any::<Vec<u8>>(), kind in 3_u8..=4) {
        let _ = UserPush::decode(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Ok(push) = UserPush::decode(&bytes) {
            prop_assert!(push.payload.len() < bytes.len());
        }
        if let Ok(broadcast) = UserBroadcast::decode(&bytes) {
            prop_assert!(broadcast.payload.len() < bytes.len());
        }
    }

    #[test]
    fn any_join_is_read_and_every_binding_is_echoed(config in values()) {
        let join = Join::read(&json!({ "config": config }).to_string());
        if let Ok(join) = join {
            let ids = binding_ids(&join.config.bindings);
            for (binding, id) in join.config.bindings.iter().zip(ids) {
                prop_assert!(id > 0);
                let reply = binding.reply(id);
                for (key, value) in &binding.requested {
                    if key != "id" {
                        prop_assert_eq!(&reply[key], value);
                    }
                }
            }
        }
    }

    #[test]
    fn any_presence_is_applied_or_refused(payloads in prop::collection::vec(values(), 1..6)) {
        let mut board = Board::new();
        for payload in payloads {
            let text = payload.to_string();
            let _ = board.apply_diff(&text);
            let _ = board.apply_state(&text);
            prop_assert!(board.present().values().all(|metas| metas.len() <= 64));
        }
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack(depth in 1_usize..200_000) {
        let nested = "[".repeat(depth);
        let _ = Frame::decode(Version::V2, &nested);
        let _ = Join::read(&nested);
        let _ = Board::new().apply_state(&nested);
        let closed = format!(r#"["1","2","t","e",{nested}{}]"#, "]".repeat(depth));
        if let Ok(frame) = Frame::decode(Version::V2, &closed) {
            prop_assert_eq!(frame.payload.get().len(), 2 * depth);
        }
    }
}
