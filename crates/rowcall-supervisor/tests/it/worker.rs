//! Warm workers that behave.

use std::{fs, time::Duration};

use rowcall_core::{AgentErrorKind, AgentKind, Payload, Runtime};

use crate::support::{Place, Run, alive, command, until};

/// A worker that does what the `do` member of its task's row says.
pub(crate) const WORKER: &str = r#"
import json, os, sys, threading, time

open('starts', 'a').write('x')
open('pid', 'w').write(str(os.getpid()))
lock = threading.Lock()
canceled = set()

def say(**message):
    with lock:
        sys.stdout.write(json.dumps(message) + '\n')
        sys.stdout.flush()

def work(id, task):
    row = task['raw_data']
    todo = row['do']
    if todo == 'echo':
        say(type='result', id=id, result={'n': row.get('n'), 'attempt': task['attempt']})
    elif todo == 'fail':
        say(type='error', id=id, error={'message': 'cannot do it'})
    elif todo == 'talk':
        print('plain words', flush=True)
        print('{"not": "a message"}', flush=True)
        print('to stderr', file=sys.stderr, flush=True)
        say(type='log', id=id, level='warn', message='a log message')
        say(type='progress', id=id, percent=50)
        say(type='result', id=id, result='talked')
    elif todo == 'wait':
        print('waiting', flush=True)
        while not os.path.exists('go') and id not in canceled: time.sleep(0.01)
        say(type='result', id=id, result='waited')
    elif todo == 'hang':
        print('hanging', flush=True)
        time.sleep(600)
    elif todo == 'crash':
        print('about to crash', file=sys.stderr, flush=True)
        os._exit(3)
    elif todo == 'answer and leave':
        say(type='result', id=id, result='left')
        os._exit(0)
    elif todo == 'leave':
        os._exit(0)
    elif todo == 'twice':
        say(type='result', id=id, result=1)
        say(type='result', id=id, result=2)
    elif todo == 'wrong id':
        say(type='result', id='nobody', result=1)
        say(type='result', id=id, result=2)
    elif todo == 'garbage':
        for line in ('{"type":"result"}', '{"type":"ready"}', '{broken', '\x00\x01', '[]', 'null'):
            print(line, flush=True)
        sys.stdout.buffer.write(b'\xff\xfe\n')
        say(type='result', id=id, result='understood')
    elif todo == 'flood':
        for _ in range(20000): sys.stdout.write('z' * 999 + '\n')
        say(type='result', id=id, result='flooded')
    elif todo == 'huge':
        say(type='result', id=id, result='h' * row['n'])
    elif todo == 'deaf':
        os.close(0)
        time.sleep(600)

for line in sys.stdin:
    message = json.loads(line)
    kind = message['type']
    if kind == 'hello':
        assert message['protocol'] == 1 and message['agent'] == 'agent' and message['machine_id'] == 'machine-1'
        print('starting up', flush=True)
        say(type='ready', protocol=1)
    elif kind == 'task':
        threading.Thread(target=work, args=(message['id'], message['task']), daemon=True).start()
    elif kind == 'cancel':
        print('cancel', message['reason'], flush=True)
        canceled.add(message['id'])
    elif kind == 'shutdown':
        open('goodbye', 'a').write('x')
        break
"#;

/// A task for the worker above.
pub(crate) fn task<'a>(place: &'a Place, concurrency: u32, row: &str) -> Run<'a> {
    let path = place.path("worker.py");
    let mut run = place.agent(AgentKind::Worker {
        command: command(Runtime::Python, None, &[path.to_str().unwrap()]),
        concurrency,
    });
    run.task.raw_data = Payload::from_text(row.to_owned()).unwrap();
    run
}

pub(crate) fn starts(place: &Place) -> usize {
    fs::read(place.path("home/starts")).map_or(0, |starts| starts.len())
}

pub(crate) fn place() -> Place {
    let place = Place::new();
    place.file("worker.py", WORKER);
    place
}

#[tokio::test]
async fn one_process_takes_many_tasks() {
    let place = place();
    assert_eq!(starts(&place), 0, "nothing starts before the first task");
    for n in 0..50 {
        let run = task(&place, 1, &format!("{{\"do\": \"echo\", \"n\": {n}}}"));
        assert_eq!(
            run.go().await.unwrap(),
            format!("{{\"n\": {n}, \"attempt\": 2}}")
        );
    }
    assert_eq!(starts(&place), 1);
    place.runners.shutdown().await;
    assert!(place.path("home/goodbye").exists(), "it was asked to leave");
    place.close().await;
}

#[tokio::test]
async fn failures_and_words_arrive() {
    let place = place();
    let error = task(&place, 1, r#"{"do": "fail"}"#).go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::Failed);
    assert_eq!(error.message, "cannot do it");
    let run = task(&place, 1, r#"{"do": "talk"}"#);
    assert_eq!(run.go().await.unwrap(), "\"talked\"");
    for part in [
        "plain words",
        "{\"not\": \"a message\"}",
        "[warn] a log message",
        "\"percent\": 50",
    ] {
        assert!(run.log.has(part), "{part} in {:?}", run.log.all());
    }
    place.close().await;
}

#[tokio::test]
async fn tasks_run_side_by_side_up_to_the_limit() {
    let place = place();
    let runs: Vec<_> = (0..5)
        .map(|_| task(&place, 3, r#"{"do": "wait"}"#))
        .collect();
    let waiting = || {
        let begun = |run: &&Run<'_>| run.log.has("waiting");
        runs.iter().filter(begun).count()
    };
    let (one, two, three, four, five, ()) = tokio::join!(
        runs[0].go(),
        runs[1].go(),
        runs[2].go(),
        runs[3].go(),
        runs[4].go(),
        async {
            until("three tasks have begun", || waiting() == 3).await;
            fs::write(place.path("home/go"), "").unwrap();
        }
    );
    for outcome in [one, two, three, four, five] {
        assert_eq!(outcome.unwrap(), "\"waited\"");
    }
    assert_eq!(starts(&place), 1);
    place.close().await;
}

#[tokio::test]
async fn an_idle_worker_leaves_and_comes_back() {
    let place = Place::with(|options| options.worker.idle = Duration::from_millis(100));
    place.file("worker.py", WORKER);
    task(&place, 1, r#"{"do": "echo"}"#).go().await.unwrap();
    until("it left", || !alive(&place.path("home/pid"))).await;
    assert!(place.path("home/goodbye").exists());
    task(&place, 1, r#"{"do": "echo"}"#).go().await.unwrap();
    assert_eq!(starts(&place), 2);
    place.close().await;
}

#[tokio::test]
async fn another_configuration_is_another_worker() {
    let place = place();
    task(&place, 1, r#"{"do": "echo"}"#).go().await.unwrap();
    let first = fs::read_to_string(place.path("home/pid")).unwrap();
    task(&place, 2, r#"{"do": "echo"}"#).go().await.unwrap();
    assert_eq!(starts(&place), 2);
    until("the old one has left", || {
        !fs::exists(format!("/proc/{first}")).unwrap()
    })
    .await;
    place.close().await;
}

#[tokio::test]
async fn a_worker_may_leave_after_an_answer() {
    let place = place();
    // The next task is often on its way to the process that leaves: it is not lost.
    for _ in 0..20 {
        let run = task(&place, 1, r#"{"do": "answer and leave"}"#);
        assert_eq!(run.go().await.unwrap(), "\"left\"");
    }
    place.close().await;
}

#[tokio::test]
async fn cancel_is_passed_on() {
    let place = place();
    let run = task(&place, 1, r#"{"do": "wait"}"#);
    let (outcome, ()) = tokio::join!(run.go(), async {
        until("it waits", || run.log.has("waiting")).await;
        run.stop.cancel();
    });
    assert_eq!(outcome.unwrap_err().kind, AgentErrorKind::Canceled);
    assert!(run.log.has("cancel stop"));
    let run = task(&place, 1, r#"{"do": "wait"}"#).timeout(Duration::from_millis(500));
    let error = run.go().await.unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::TimedOut);
    assert!(error.message.contains("was canceled"), "{}", error.message);
    assert!(run.log.has("cancel timeout"));
    assert_eq!(starts(&place), 1, "a worker that obeys is kept");
    place.close().await;
}

#[tokio::test]
async fn after_a_report_the_answer_no_longer_counts() {
    let place = place();
    let run = task(&place, 1, r#"{"do": "wait"}"#);
    let (outcome, ()) = tokio::join!(run.go(), async {
        until("it waits", || run.log.has("waiting")).await;
        run.reported.cancel();
        fs::write(place.path("home/go"), "").unwrap();
    });
    assert_eq!(outcome.unwrap(), "{}");
    assert_eq!(starts(&place), 1);
    place.close().await;
}

/// The program in the documentation of the protocol is one.
#[tokio::test]
async fn the_documented_smallest_worker_works() {
    let document = include_str!("../../../../docs/worker-protocol.md");
    let (_, rest) = document.split_once("```python\n").unwrap();
    let (program, _) = rest.split_once("```").unwrap();
    let place = Place::new();
    place.file("worker.py", program);
    for _ in 0..2 {
        let run = task(&place, 1, r#"{"message": "hello"}"#);
        assert_eq!(run.go().await.unwrap(), "{\"length\": 5}");
    }
    place.close().await;
}
