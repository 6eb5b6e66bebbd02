//! Exit codes and printed results, in every runtime that is at hand.

use rowcall_core::{AgentErrorKind, Runtime};

use crate::support::{Place, command};

#[tokio::test]
async fn the_last_object_on_stdout_is_the_result() {
    let place = Place::new();
    let run =
        place.sh("echo '{\"a\": 1}'\necho noise\necho '{\"b\": 2}'\necho '{broken'\necho done");
    assert_eq!(run.go().await.unwrap(), "{\"b\": 2}");
    assert_eq!(
        run.log.all(),
        ["{\"a\": 1}", "noise", "{\"b\": 2}", "{broken", "done"]
    );
    assert_eq!(place.sh("echo hello").go().await.unwrap(), "{}");
    assert_eq!(
        place
            .sh("printf '{\"result\": [1, 2]}'")
            .go()
            .await
            .unwrap(),
        "[1, 2]"
    );
    place.close().await;
}

#[tokio::test]
async fn a_failure_says_what_the_agent_said() {
    let place = Place::new();
    let error = place
        .sh("echo first >&2; echo 'no such key' >&2; exit 3")
        .go()
        .await
        .unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::Failed);
    assert_eq!(
        error.message,
        "the agent exited with code 3: first\nno such key"
    );
    let error = place
        .sh("echo '{\"error\": {\"message\": \"quota used up\"}}'; echo noise >&2; exit 1")
        .go()
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        "quota used up (the agent exited with code 1)"
    );
    let error = place.sh("kill -SEGV $$").go().await.unwrap_err();
    assert!(error.message.contains("SIGSEGV"), "{}", error.message);
    place.close().await;
}

#[tokio::test]
async fn python_reads_variables_and_arguments() {
    let place = Place::new();
    let run = place.python(
        "import json, os, sys\n\
         by_env = json.loads(os.environ['ACTIVITY_DATA'])\n\
         assert json.loads(sys.argv[2]) == by_env and sys.argv[1] == os.environ['TASK_UUID']\n\
         print(json.dumps({'subject': by_env['raw_data']['subject'], 'attempt': os.environ['ATTEMPT']}, ensure_ascii=False))\n",
    );
    assert_eq!(
        run.go().await.unwrap(),
        "{\"subject\": \"größer\", \"attempt\": \"2\"}"
    );
    place.close().await;
}

#[tokio::test]
async fn node_reads_variables_and_arguments() {
    let place = Place::new();
    let path = place.file(
        "agent.mjs",
        "const [task, data] = process.argv.slice(2);\n\
         if (task !== process.env.TASK_UUID || data !== process.env.ACTIVITY_DATA) process.exit(9);\n\
         console.log(JSON.stringify({ result: JSON.parse(data).raw_data.subject }));\n",
    );
    let run = place.run(command(Runtime::Node, None, &[path.to_str().unwrap()]));
    assert_eq!(run.go().await.unwrap(), "\"größer\"");
    place.close().await;
}

#[tokio::test]
async fn many_at_once_do_not_disturb_each_other() {
    let place = Place::new();
    // Each leaves a child behind: cleaning up after one must not touch the others.
    let script = place.file("many.sh", "sleep 600 & echo \"{\\\"n\\\": $N}\"\n");
    let mut runs = Vec::new();
    for n in 0..40 {
        let mut command = command(Runtime::Custom, Some("sh"), &[script.to_str().unwrap()]);
        command.env.insert("N".to_owned(), n.to_string());
        runs.push(place.run(command));
    }
    let mut going: Vec<_> = runs.iter().map(|run| Box::pin(run.go())).collect();
    let mut results = Vec::new();
    // Polled together, as the engine does.
    std::future::poll_fn(|context| {
        going.retain_mut(|run| match run.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                results.push(result.unwrap());
                false
            }
            std::task::Poll::Pending => true,
        });
        if going.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results.sort();
    results.dedup();
    assert_eq!(results.len(), 40, "every run has its own result");
    drop(going);
    place.close().await;
}
