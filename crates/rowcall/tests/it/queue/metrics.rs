//! E7: numbers for Prometheus, of a daemon and of `rowcall worker`, and the page that lists them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, realtime::project};
use crate::support::{Daemon, http_client, until};

/// The page with the table of all families.
const PAGE: &str = include_str!("../../../../../docs/operations.md");

/// What a page of numbers says.
#[derive(Debug, Default)]
struct Exposition {
    /// Families and their kinds.
    families: BTreeMap<String, String>,
    /// Values by name and labels as they are written.
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads the text format strictly: `HELP`, `TYPE`, then the family's samples, each family and each sample once.
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        let (mut helped, mut family) = (None, None::<(String, String)>);
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect(line);
                assert!(words.len() > 10, "{line}");
                helped = Some(name.to_owned());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                assert_eq!(helped.take().as_deref(), Some(name), "HELP before TYPE");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let again = page.families.insert(name.to_owned(), kind.to_owned());
                assert!(again.is_none(), "{name} begins twice");
                family = Some((name.to_owned(), kind.to_owned()));
            } else {
                let (sample, value) = line.rsplit_once(' ').expect(line);
                let value: f64 = value.parse().expect(line);
                let (name, labels) = match sample.split_once('{') {
                    Some((name, rest)) => (name, rest.strip_suffix('}').expect(line)),
                    None => (sample, ""),
                };
                check_labels(labels, line);
                let (family, kind) = family.as_ref().expect("a sample belongs to a family");
                let rest = name.strip_prefix(family.as_str()).expect(line);
                let allowed: &[&str] = match kind.as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(allowed.contains(&rest), "{line} in {family}");
                let again = page.samples.insert(sample.to_owned(), value);
                assert!(again.is_none(), "{sample} is there twice");
            }
        }
        page
    }

    fn value(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }
}

/// `a="x",b="y"`; no test here has quotes in a label.
fn check_labels(labels: &str, line: &str) {
    let mut names = BTreeSet::new();
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=').expect(line);
        assert!(names.insert(name), "{line}");
        assert!(
            value.len() >= 2 && value.starts_with('"') && value.ends_with('"'),
            "{line}"
        );
    }
}

async fn scrape(url: &str, token: Option<&str>) -> Result<Exposition, String> {
    let mut request = http_client().get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(|error| error.to_string())?;
    assert_eq!(answer.status().as_u16(), 200);
    let kind = answer.headers()["content-type"].to_str().expect("text");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = answer.text().await.map_err(|error| error.to_string())?;
    Ok(Exposition::read(&text))
}

/// The families of the page's table: the names in the first column of rows that have three.
fn documented() -> BTreeMap<String, String> {
    PAGE.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells.first()?.split('{').next()?.trim_matches('`');
            let known = name.starts_with("rowcall_") && cells.len() == 3;
            known.then(|| (name.to_owned(), cells[1].to_owned()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_a_daemon_tells_everything_the_page_lists_and_nothing_else() {
    let place = Place::new().await;
    let (stack, keys) = project(&place).await;
    let config = place.path("rowcall.toml");
    let text = format!(
        r#"
[worker]
idle_wait = "10m"
name = "w1"

[worker.realtime]
url = {:?}
key = {:?}

[worker.queues.jobs]
run = ["sh", "-c", "while test ! -e {}; do sleep 0.05; done", "handler"]
kind = "process"
timeout = "2s"
concurrency = 2
"#,
        stack.url(),
        keys.service_role_key(),
        place.path("go").display(),
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let app = crate::support::shell_app("echo '{}'", 2);
    let env = [("ROWCALL_CONFIG", config.as_str())];
    let daemon = Daemon::start_with("numbers", &place.db.url(), &app, &env).await;
    let token = std::fs::read_to_string(daemon.path().join("session-token")).unwrap();
    let url = format!("{}/rowcall/v1/metrics", daemon.api());
    let scraped = async |what: &str, wanted: &[(&str, f64)]| {
        until(what, async || {
            let page = scrape(&url, Some(token.trim())).await?;
            let is = |(name, value): &(&str, f64)| page.value(name) == Some(*value);
            if wanted.iter().all(is) {
                Ok(page)
            } else {
                Err(format!("{page:?}\n{}", daemon.log()))
            }
        })
        .await
    };
    scraped(
        "the channel is joined and shows the worker",
        &[
            (r#"rowcall_queue_channel_up{by="realtime"}"#, 1.0),
            ("rowcall_queue_presence_drift", 0.0),
            ("rowcall_queue_workers", 1.0),
        ],
    )
    .await;
    place.done(&["queue", "send", "jobs", "{}"]).await;
    // Presence is told with a delay; in the end it shows what runs.
    let page = scraped(
        "one message is in work, and its depth is told",
        &[
            (r#"rowcall_queue_wait_seconds_count{queue="jobs"}"#, 1.0),
            (r#"rowcall_queue_depth{queue="jobs"}"#, 1.0),
            (r#"rowcall_queue_visible{queue="jobs"}"#, 0.0),
            ("rowcall_queue_presence_drift", 0.0),
        ],
    )
    .await;
    assert!(page.value(r#"rowcall_queue_wakes_total{queue="jobs"}"#) >= Some(1.0));
    let waited = page.value(r#"rowcall_queue_wait_seconds_bucket{queue="jobs",le="+Inf"}"#);
    assert_eq!(waited, Some(1.0));
    assert_eq!(page.families, documented());
    std::fs::write(place.path("go"), "").unwrap();
    // The project goes away: its channel is down, and a connection is counted as lost.
    stack.shutdown().await;
    until("the channel is down", async || {
        let page = scrape(&url, Some(token.trim())).await?;
        let down = page.value(r#"rowcall_queue_channel_up{by="realtime"}"#) == Some(0.0);
        let lost = page.value(r#"rowcall_queue_reconnects_total{by="realtime"}"#) >= Some(1.0);
        if down && lost {
            Ok(())
        } else {
            Err(format!("{page:?}"))
        }
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn e7_a_worker_serves_its_numbers_where_it_is_told_to() {
    let place = Place::new().await;
    let worker = place
        .worker(&[
            "worker",
            "--queue",
            "jobs",
            "--kind",
            "process",
            "--metrics",
            "127.0.0.1:0",
            "--",
            "true",
        ])
        .await;
    let url = until("it says where", async || {
        let log = worker.log();
        let said = log.split("numbers for Prometheus: ").nth(1);
        // The whole line, not what is written of it so far.
        let line = said.and_then(|said| said.split_once('\n'));
        line.map(|(url, _)| url.trim().to_owned()).ok_or(log)
    })
    .await;
    place.done(&["queue", "send", "jobs", "{}"]).await;
    let page = until("the message is counted", async || {
        let page = scrape(&url, None).await?;
        let done = page.value(r#"rowcall_tasks_total{outcome="completed"}"#) == Some(1.0);
        let waited = page.value(r#"rowcall_queue_wait_seconds_count{queue="jobs"}"#);
        let up = page.value(r#"rowcall_queue_channel_up{by="database"}"#);
        if done && waited == Some(1.0) && up == Some(1.0) {
            Ok(page)
        } else {
            Err(format!("{page:?}"))
        }
    })
    .await;
    let known = documented();
    for (family, kind) in &page.families {
        assert_eq!(known.get(family), Some(kind), "{family}");
    }
    // Pages of browsers are refused as by the local API.
    for (header, value) in [
        ("host", "attacker.example"),
        ("origin", "http://attacker.example"),
    ] {
        let answer = http_client()
            .get(&url)
            .header(header, value)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 403, "{header}");
    }
    // The port is taken: said before anything is started.
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches("/metrics");
    let args = [
        "worker",
        "--queue",
        "jobs",
        "--name",
        "w2",
        "--metrics",
        address,
        "--",
        "true",
    ];
    let output = place.run(&args).await;
    assert!(!output.status.success());
    assert!(super::stderr(&output).contains("cannot listen on"));
    worker.stop().await;
}
