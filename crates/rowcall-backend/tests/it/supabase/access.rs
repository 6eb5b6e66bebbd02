//! Who may do what: keys, signed-in users, expired tokens.

use std::sync::{Arc, Mutex};

use rowcall_backend::{
    NewTask,
    supabase::{SupabaseBackend, TokenKeeper, UserTokens},
};
use rowcall_core::{
    ErrorClass, LeasePolicy, MachineId, Payload, RetryPolicy, TaskRef,
    ports::{AdminOutcome, ClaimOutcome, ClaimRules, Coordinator, TaskAdmin},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::project::{Project, Setup};

fn rules() -> ClaimRules {
    ClaimRules {
        machine: MachineId::new("m1").unwrap(),
        lease: LeasePolicy::default(),
        retry: RetryPolicy::default(),
    }
}

fn task() -> NewTask {
    NewTask::direct(Payload::from_text("{\"n\": 1}".to_owned()).unwrap())
}

/// A user of the project: id and tokens.
async fn sign_up(project: &Project, email: &str) -> (String, UserTokens) {
    let answer = reqwest_json(
        project,
        "/auth/v1/signup",
        &json!({"email": email, "password": "correct horse battery"}),
    )
    .await;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let tokens = UserTokens {
        access: text(&answer["access_token"]).into(),
        refresh: Some(text(&answer["refresh_token"]).into()),
    };
    (text(&answer["user"]["id"]), tokens)
}

async fn reqwest_json(project: &Project, path: &str, body: &Value) -> Value {
    rowcall_realtime::client::install_tls_provider();
    let client = reqwest::Client::builder().build().unwrap();
    let url = format!("{}{path}", project.stack.url());
    let request = client
        .post(url)
        .header("apikey", project.keys.anon_key())
        .json(body);
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    answer.json().await.unwrap()
}

async fn own(project: &Project, task: &TaskRef, user: &str) {
    let sql = "update rtx_activities set user_id = $2::text::uuid where id = $1";
    project
        .execute(sql, &[&task.id.as_uuid().unwrap(), &user])
        .await;
}

#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl TokenKeeper for Kept {
    fn keep(&self, tokens: &UserTokens) {
        let access = tokens.access.expose_secret().to_owned();
        self.0.lock().unwrap().push(access);
    }
}

#[tokio::test]
async fn a_signed_in_user_works_on_its_own_tasks() {
    let project = Project::start(Setup::Ours).await;
    let (ada, tokens) = sign_up(&project, "ada@example.com").await;
    let (grace, _) = sign_up(&project, "grace@example.com").await;
    let (mine, theirs) = (project.insert(&task()).await, project.insert(&task()).await);
    own(&project, &mine, &ada).await;
    own(&project, &theirs, &grace).await;
    let mut config = project.config_with("m1", project.keys.publishable_key());
    config.user = Some(tokens);
    let (backend, _driver) = SupabaseBackend::new(config).unwrap();
    assert!(matches!(
        backend.claim(&rules(), &theirs).await.unwrap(),
        ClaimOutcome::Gone
    ));
    assert!(matches!(
        backend.claim(&rules(), &mine).await.unwrap(),
        ClaimOutcome::Won(_)
    ));
    assert_eq!(
        backend.cancel(&mine, "no").await.unwrap(),
        AdminOutcome::Done
    );
}

#[tokio::test]
async fn an_expired_token_is_renewed_and_kept() {
    let project = Project::start(Setup::Ours).await;
    let (ada, tokens) = sign_up(&project, "ada@example.com").await;
    let task = project.insert(&task()).await;
    own(&project, &task, &ada).await;
    let expired = project
        .keys
        .sign(&json!({"role": "authenticated", "sub": ada, "exp": 1_000_000_000}));
    let stale = UserTokens {
        access: expired.into(),
        refresh: tokens.refresh,
    };
    let kept = Arc::new(Kept::default());
    let mut config = project.config_with("m1", project.keys.anon_key());
    config.user = Some(stale);
    config.keeper = Some(kept.clone());
    let (backend, _driver) = SupabaseBackend::new(config).unwrap();
    assert!(matches!(
        backend.claim(&rules(), &task).await.unwrap(),
        ClaimOutcome::Won(_)
    ));
    assert_eq!(kept.0.lock().unwrap().len(), 1, "it was renewed once");
}

#[tokio::test]
async fn a_session_that_is_over_says_so() {
    let project = Project::start(Setup::Ours).await;
    let expired = project
        .keys
        .sign(&json!({"role": "authenticated", "exp": 1_000_000_000}));
    let mut config = project.config_with("m1", project.keys.anon_key());
    config.user = Some(UserTokens {
        access: expired.into(),
        refresh: Some(SecretString::from("nobodyknows1")),
    });
    let (backend, _driver) = SupabaseBackend::new(config).unwrap();
    let error = backend.sweep(&[], None, 1).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unauthorized);
    assert!(error.message.contains("sign in again"), "{}", error.message);
}

#[tokio::test]
async fn what_the_anon_key_cannot_do_is_explained() {
    let project = Project::start(Setup::Ours).await;
    let task = project.insert(&task()).await;
    let config = project.config_with("m1", project.keys.publishable_key());
    let (backend, _driver) = SupabaseBackend::new(config).unwrap();
    // Row level security hides what it does not allow, without an error; examining the project tells.
    assert!(matches!(
        backend.claim(&rules(), &task).await.unwrap(),
        ClaimOutcome::Gone
    ));
    let found = backend.probe().await.unwrap();
    assert_eq!((found.row_security, found.signed_in), (Some(true), false));
    let deny = "revoke all on rtx_activities from anon";
    project.client.batch_execute(deny).await.unwrap();
    let error = backend.claim(&rules(), &task).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unauthorized, "{}", error.message);
    assert!(
        error.message.contains("row level security"),
        "{}",
        error.message
    );
    // Where the operator chose open access, the same key does.
    let open = "alter table rtx_activities disable row level security; grant all on rtx_activities to anon";
    project.client.batch_execute(open).await.unwrap();
    assert!(matches!(
        backend.claim(&rules(), &task).await.unwrap(),
        ClaimOutcome::Won(_)
    ));
    assert_eq!(backend.probe().await.unwrap().row_security, Some(false));
}

#[tokio::test]
async fn a_wrong_key_is_a_wrong_key() {
    let project = Project::start(Setup::Ours).await;
    for key in [
        "sb_publishable_wrong",
        "eyJhbGciOiJIUzI1NiJ9.e30.x",
        "no\nheader",
    ] {
        let (backend, _driver) = SupabaseBackend::new(project.config_with("m1", key)).unwrap();
        let error = backend.sweep(&[], None, 1).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Unauthorized, "{}", error.message);
        assert!(!error.message.contains(key), "{}", error.message);
    }
}

#[tokio::test]
async fn a_project_is_examined() {
    for (setup, ours) in [(Setup::Ours, true), (Setup::Published, false)] {
        let project = Project::start(setup).await;
        let (backend, _driver) = project.backend("m1");
        let found = backend.probe().await.unwrap();
        assert_eq!((found.activities, found.claim_function), (true, true));
        assert_eq!((found.columns, found.functions), (ours, ours));
        assert!(found.clock_ahead.unwrap().abs() < 60);
        let activities = rowcall_core::TableName::activities();
        if ours {
            assert_eq!(found.tables[&activities].published, Some(true));
        }
    }
}

#[tokio::test]
async fn a_project_that_was_not_set_up_is_found_out() {
    let project = Project::start(Setup::Published).await;
    let drop = "drop table rtx_activities; drop function rtx_fn_claim_task; drop function get_publications_full;
                notify pgrst, 'reload schema'";
    project.client.batch_execute(drop).await.unwrap();
    let (backend, _driver) = project.backend("m1");
    // The server reads its schema anew in its own time.
    let mut found = backend.probe().await.unwrap();
    for _ in 0..1_200 {
        if !found.activities && found.publications.is_none() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        found = backend.probe().await.unwrap();
    }
    assert_eq!(
        (found.activities, found.claim_function, found.functions),
        (false, false, false)
    );
    assert_eq!(found.publications, None);
}
