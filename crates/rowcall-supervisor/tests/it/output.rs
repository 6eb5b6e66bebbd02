//! Output that is no text, too long, or too much.

use rowcall_core::{AgentErrorKind, ports::OutputStream};

use crate::support::Place;

#[tokio::test]
async fn bytes_that_are_no_text_are_replaced() {
    let place = Place::new();
    let run = place
        .sh(r#"printf 'a\377b\nzero\000\n\303'; printf 'err\376\n' >&2; echo; echo '{"a": 1}'"#);
    assert_eq!(run.go().await.unwrap(), "{\"a\": 1}");
    assert_eq!(
        run.log.of(OutputStream::Stdout),
        ["a\u{fffd}b", "zero\u{fffd}", "\u{fffd}", "{\"a\": 1}"]
    );
    assert_eq!(run.log.of(OutputStream::Stderr), ["err\u{fffd}"]);
    place.close().await;
}

#[tokio::test]
async fn a_flood_is_read_and_dropped() {
    let place = Place::new();
    let run = place.python(
        "import sys\n\
         line = 'x' * 1023 + '\\n'\n\
         for _ in range(100 * 1024): sys.stdout.write(line)\n\
         sys.stderr.write(line * 1024)\n\
         print('the end')\n\
         print('{\"read\": true}')\n",
    );
    assert_eq!(run.go().await.unwrap(), "{\"read\": true}");
    let kept: usize = run.log.all().iter().map(String::len).sum();
    assert!(kept < 6 * 1024 * 1024, "{kept} bytes were kept of 100 MiB");
    assert!(run.log.has("more than 4194304 bytes of output"));
    assert!(run.log.has("lines ("), "what was dropped is counted");
    let out = run.log.of(OutputStream::Stdout);
    assert_eq!(out[out.len() - 2..], ["the end", "{\"read\": true}"]);
    place.close().await;
}

#[tokio::test]
async fn one_line_of_ten_megabytes_is_cut() {
    let place = Place::new();
    let run = place.python("print('y' * 10_000_000)\nprint('{\"ok\": 1}')\n");
    assert_eq!(run.go().await.unwrap(), "{\"ok\": 1}");
    let lines = run.log.all();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].len() < 65 * 1024 + 64);
    assert!(
        lines[0].ends_with("… [9934464 more bytes cut]"),
        "{}",
        &lines[0][65_530..]
    );
    place.close().await;
}

#[tokio::test]
async fn a_result_of_ten_megabytes_is_taken_whole() {
    let place = Place::new();
    let run = place.python("print('{\"text\": \"' + 'y' * 10_000_000 + '\"}')\n");
    assert_eq!(run.go().await.unwrap().len(), 10_000_012);
    assert!(
        run.log.all()[0].len() < 65 * 1024 + 64,
        "the log is cut all the same"
    );
    place.close().await;
}

#[tokio::test]
async fn a_result_above_the_limit_is_an_error() {
    let place = Place::with(|options| options.limits.result_bytes = 100_000);
    let run = place.python("print('{\"text\": \"' + 'y' * 200_000 + '\"}')\n");
    let error = run.go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::Failed);
    assert!(
        error.message.contains("the limit is 100000"),
        "{}",
        error.message
    );
    place.close().await;
}
