//! What agents are told: variables, and data too large for one.

use std::fs;

use rowcall_core::{Payload, Runtime};
use serde_json::Value;

use crate::support::{Place, command};

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn the_environment_is_clean_and_complete() {
    let place = Place::new();
    let mut command = command(Runtime::Custom, Some("sh"), &["-c", "env -0 > \"$OUT\""]);
    let out = place.path("env");
    command
        .env
        .insert("OUT".to_owned(), out.to_str().unwrap().to_owned());
    command
        .env
        .insert("SERVER_URL".to_owned(), "http://own".to_owned());
    place.run(command).go().await.unwrap();
    let text = fs::read_to_string(&out).unwrap();
    let variables: std::collections::BTreeMap<&str, &str> = text
        .split('\0')
        .filter_map(|variable| variable.split_once('='))
        .collect();
    for (name, expected) in [
        ("TASK_UUID", "7f0b9c1e-0b53-4a8a-9d0e-0f4d0a3a2b11"),
        ("MACHINE_ID", "machine-1"),
        ("TABLE_NAME", "support_tickets"),
        ("TABLE_SCHEMA", "public"),
        ("EVENT_TYPE", "INSERT"),
        ("ATTEMPT", "2"),
        (
            "IDEMPOTENCY_KEY",
            "rowcall:public.rtx_activities/7f0b9c1e-0b53-4a8a-9d0e-0f4d0a3a2b11",
        ),
        ("SUPABASE_URL", "http://stack"),
        ("SERVER_URL", "http://own"),
    ] {
        assert_eq!(variables.get(name), Some(&expected), "{name}");
    }
    let data = value(variables["ACTIVITY_DATA"]);
    assert_eq!(data["raw_data"]["id"], 5);
    assert_eq!(data["key"]["id"], 5);
    assert_eq!(data["old_data"], Value::Null);
    assert_eq!(data["table_name"], "support_tickets");
    assert_eq!(data["event"], "INSERT");
    assert_eq!(data["id"], "7f0b9c1e-0b53-4a8a-9d0e-0f4d0a3a2b11");
    // Cargo sets many variables for tests; none of them is among those that agents see.
    assert!(!variables.keys().any(|name| name.starts_with("CARGO")));
    assert!(!variables.contains_key("ACTIVITY_DATA_FILE"));
    place.close().await;
}

#[tokio::test]
async fn data_that_does_not_fit_goes_by_file() {
    let place = Place::new();
    let text = "é".repeat(400 * 1024);
    let mut run = place.python(
        "import json, os, stat, sys\n\
         notice = json.loads(os.environ['ACTIVITY_DATA'])\n\
         assert notice['truncated'] is True and json.loads(sys.argv[2]) == notice\n\
         path = os.environ['ACTIVITY_DATA_FILE']\n\
         assert notice['file'] == path\n\
         mode = stat.S_IMODE(os.stat(path).st_mode)\n\
         data = json.load(open(path, encoding='utf-8'))\n\
         assert notice['bytes'] == os.stat(path).st_size and data['id'] == notice['id']\n\
         print(json.dumps({'mode': oct(mode), 'length': len(data['raw_data']['text']), 'path': path}))\n",
    );
    run.task.raw_data = Payload::from_value(&serde_json::json!({ "text": text })).unwrap();
    let result = value(&run.go().await.unwrap());
    assert_eq!(result["mode"], "0o600");
    assert_eq!(result["length"], 400 * 1024);
    let path = result["path"].as_str().unwrap();
    assert!(!fs::exists(path).unwrap(), "{path} was not removed");
    place.close().await;
}

#[tokio::test]
async fn data_just_below_the_limit_goes_by_variable() {
    // The largest limit that can be asked for still has to fit what the kernel takes.
    let place = Place::with(|options| options.limits.inline_activity_bytes = usize::MAX);
    for length in [126 * 1024, 200 * 1024] {
        let mut run = place.sh("test -n \"$ACTIVITY_DATA\" && echo '{\"ok\": true}'");
        let text = "x".repeat(length);
        run.task.raw_data = Payload::from_value(&serde_json::json!({ "text": text })).unwrap();
        assert_eq!(run.go().await.unwrap(), "{\"ok\": true}", "{length} bytes");
    }
    place.close().await;
}

#[tokio::test]
async fn data_spread_over_lines_stays_one_argument() {
    let place = Place::new();
    let mut run =
        place.sh("printf '%s' \"$2\" | wc -l | tr -d ' ' >&2; printf '{\"n\": %s}' \"$#\"");
    run.task.raw_data = Payload::from_text("{\n \"a\":\n 1 }".to_owned()).unwrap();
    assert_eq!(run.go().await.unwrap(), "{\"n\": 2}");
    assert_eq!(run.log.all()[0].trim(), "0");
    place.close().await;
}

#[tokio::test]
async fn data_of_killed_daemons_is_removed() {
    // No process has this number: it is above what Linux gives out.
    let name = "4194999.0";
    let dir = tempfile::TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join(name)).unwrap();
    fs::write(dir.path().join(name).join("activity-1.json"), "{}").unwrap();
    fs::create_dir_all(dir.path().join("other")).unwrap();
    let spool = dir.path().to_owned();
    let _place = Place::with(|options| options.spool_dir = spool);
    assert!(!dir.path().join(name).exists());
    assert!(dir.path().join("other").exists(), "not ours to remove");
}
