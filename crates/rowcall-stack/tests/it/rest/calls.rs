//! Function calls.

use reqwest::Method;
use serde_json::json;

use super::world::World;

#[tokio::test]
async fn results_have_the_shape_of_what_is_returned() {
    let world = World::new().await;
    for (name, body, expected) in [
        ("add", json!({"a": 1, "b": 2}), json!(3)),
        ("add", json!({"a": 1}), json!(11)),
        ("hello", json!({}), json!("hello")),
        ("a_json", json!({}), json!({"a": [1, 2]})),
        ("null_json", json!({}), json!(null)),
        ("numbers", json!({}), json!([1, 2, 3])),
        (
            "one_project",
            json!({"p_id": 3}),
            json!({"id": 3, "name": "IOS", "client_id": 2}),
        ),
        (
            "as_table",
            json!({"lowest": 4}),
            json!([{"id": 4, "doubled": 8}, {"id": 5, "doubled": 10}]),
        ),
        ("out_params", json!({"x": 1}), json!({"y": 2, "z": "z"})),
        ("sum_all", json!({"v": [1, 2, 3]}), json!(6)),
        ("array_length_of", json!({"arr": [1, 2, 3]}), json!(3)),
        ("array_length_of", json!({"arr": "{1,2}"}), json!(2)),
        (
            "row_arg",
            json!({"p": {"id": 1, "name": "n", "client_id": null}}),
            json!("n"),
        ),
        (
            "unnamed_json",
            json!({"any": ["thing"]}),
            json!({"any": ["thing"]}),
        ),
        ("unnamed_json", json!([1, 2]), json!([1, 2])),
        ("over", json!({"a": 1}), json!("one")),
        ("over", json!({"a": 1, "b": 2}), json!("two")),
    ] {
        let answer = world.post(&format!("/rpc/{name}"), &body).send().await;
        answer.expect(200, expected);
    }
    world
        .post("/rpc/nothing", &json!({}))
        .send()
        .await
        .expect_empty(204);
    world
        .ask(Method::POST, "/rpc/hello")
        .send()
        .await
        .expect(200, json!("hello"));
    let text = world
        .ask(Method::POST, "/rpc/unnamed_text")
        .body("text/plain", "loud")
        .send()
        .await;
    text.expect(200, json!("LOUD"));
    let bytes = world
        .ask(Method::POST, "/rpc/unnamed_bytea")
        .body("application/octet-stream", vec![0_u8, 255, 3])
        .send()
        .await;
    bytes.expect(200, json!(3));
    let form = world
        .ask(Method::POST, "/rpc/add")
        .body("application/x-www-form-urlencoded", "a=1&b=5")
        .send()
        .await;
    form.expect(200, json!(6));
}

#[tokio::test]
async fn rows_of_functions_are_tables() {
    let world = World::new().await;
    for (query, expected) in [
        (
            "/rpc/all_projects?select=id,name&id=lt.3&order=id.desc&limit=1",
            json!([{"id": 2, "name": "Windows 10"}]),
        ),
        (
            "/rpc/all_projects?select=id,clients(name),tasks(id)&id=eq.1&tasks.order=id",
            json!([{"id": 1, "clients": {"name": "Microsoft"}, "tasks": [{"id": 1}, {"id": 2}]}]),
        ),
        (
            "/rpc/all_projects?select=name,shout&id=eq.3",
            json!([{"name": "IOS", "shout": "IOS"}]),
        ),
        (
            "/rpc/all_projects?select=id,computed_client(name)&id=eq.3",
            json!([{"id": 3, "computed_client": {"name": "Apple"}}]),
        ),
        (
            "/rpc/as_table?lowest=4&doubled=eq.10&select=id",
            json!([{"id": 5}]),
        ),
        ("/rpc/numbers?limit=2&offset=1", json!([2, 3])),
        ("/rpc/add?a=1&b=2", json!(3)),
        ("/rpc/sum_all?v=1&v=2&v=3", json!(6)),
        ("/rpc/sum_all?v={4,5}", json!(9)),
        ("/rpc/array_length_of?arr={1,2}", json!(2)),
        (
            "/rpc/one_project?p_id=3&select=name",
            json!({"name": "IOS"}),
        ),
    ] {
        assert_eq!(world.read(query).await, expected, "{query}");
    }
    let counted = world
        .get("/rpc/all_projects?select=id&limit=2&order=id")
        .prefer("count=exact")
        .send()
        .await;
    counted.expect(206, json!([{"id": 1}, {"id": 2}]));
    assert_eq!(counted.header("content-range"), "0-1/5");
    let single = world
        .post("/rpc/all_projects?id=eq.3&select=id", &json!({}))
        .header("accept", "application/vnd.pgrst.object+json")
        .send()
        .await;
    single.expect(200, json!({"id": 3}));
    let head = world
        .ask(Method::HEAD, "/rpc/all_projects")
        .prefer("count=exact")
        .send()
        .await;
    head.expect_empty(200);
    assert_eq!(head.header("content-range"), "0-4/5");
}

#[tokio::test]
async fn writing_functions_need_post() {
    let world = World::new().await;
    let written = world
        .post(
            "/rpc/add_item?select=id,code",
            &json!({"p_id": 90, "p_code": "z"}),
        )
        .send()
        .await;
    written.expect(200, json!({"id": 90, "code": "z"}));
    world
        .post("/rpc/stable_refusal", &json!({}))
        .send()
        .await
        .expect_error(400, "P0001");
    world
        .get("/rpc/add_item?p_id=91&p_code=y")
        .send()
        .await
        .expect_error(405, "25006");
    world
        .ask(Method::DELETE, "/rpc/hello")
        .send()
        .await
        .expect_error(405, "PGRST101");
    let minimal = world
        .post("/rpc/add_item", &json!({"p_id": 92, "p_code": "w"}))
        .prefer("return=minimal")
        .send()
        .await;
    assert_eq!((minimal.status.as_u16(), minimal.text.as_str()), (200, ""));
}

#[tokio::test]
async fn the_function_that_is_meant_is_found_or_told() {
    let world = World::new().await;
    let error = world
        .post("/rpc/add", &json!({"x": 1}))
        .send()
        .await
        .expect_error(404, "PGRST202");
    assert_eq!(
        error["message"],
        "Could not find the function public.add(x) in the schema cache"
    );
    assert_eq!(
        error["details"],
        "Searched for the function public.add with parameter x or with a single unnamed json/jsonb parameter, but no matches \
         were found in the schema cache."
    );
    let error = world
        .post("/rpc/hallo", &json!({}))
        .send()
        .await
        .expect_error(404, "PGRST202");
    assert_eq!(
        error["message"],
        "Could not find the function public.hallo without parameters in the schema cache"
    );
    assert_eq!(
        error["hint"],
        "Perhaps you meant to call the function public.hello"
    );
    let error = world
        .get("/rpc/add?b=1")
        .send()
        .await
        .expect_error(404, "PGRST202");
    assert_eq!(
        error["details"],
        "Searched for the function public.add with parameter b, but no matches were found in the schema cache."
    );
    let error = world
        .post("/rpc/vague", &json!({"a": 1}))
        .send()
        .await
        .expect_error(300, "PGRST203");
    assert_eq!(
        error["message"],
        "Could not choose the best candidate function between: public.vague(a => integer), public.vague(a => text)"
    );
}

#[tokio::test]
async fn sql_may_word_the_answer() {
    let world = World::new().await;
    let answer = world.post("/rpc/headers", &json!({})).send().await;
    answer.expect(202, json!("ok"));
    assert_eq!(answer.header("x-one"), "1");
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    let error = world.post("/rpc/fails", &json!({})).send().await;
    error.expect(
        400,
        json!({"code": "P0001", "message": "no way", "details": "d", "hint": "h"}),
    );
    assert_eq!(error.header("proxy-status"), "PostgREST; error=P0001");
    world
        .post("/rpc/teapot", &json!({}))
        .send()
        .await
        .expect_error(418, "PT418");
    let shaped = world.post("/rpc/shaped_error", &json!({})).send().await;
    shaped.expect(402, json!({"code": "123", "message": "Payment Required", "details": "Quota exceeded", "hint": "Upgrade your plan"}));
    assert_eq!(shaped.header("x-powered-by"), "Nerd Rage");
    world
        .post("/rpc/quick", &json!({}))
        .send()
        .await
        .expect_error(500, "57014");
}

#[tokio::test]
async fn sql_sees_the_request() {
    let world = World::new().await;
    let setting = async |name: &str| {
        let path = format!("/rpc/request_setting?name={name}");
        world
            .get(&path)
            .header("x-custom", "Value")
            .header("cookie", "a=1; b=2")
            .send()
            .await
            .json()
    };
    assert_eq!(setting("request.method").await, json!("GET"));
    assert_eq!(setting("request.path").await, json!("/rpc/request_setting"));
    let headers = setting("request.headers").await;
    let headers: serde_json::Value =
        serde_json::from_str(headers.as_str().expect("text")).expect("JSON");
    assert_eq!(headers["x-custom"], "Value");
    assert_eq!(headers.get("cookie"), None);
    assert_eq!(
        setting("request.cookies").await,
        json!(r#"{"a":"1","b":"2"}"#)
    );
    assert_eq!(
        setting("request.jwt.claims").await,
        json!(r#"{"role":"anon"}"#)
    );
    let zone = world
        .get("/rpc/timezone")
        .prefer("timezone=America/Los_Angeles")
        .send()
        .await;
    zone.expect(200, json!("America/Los_Angeles"));
    assert_eq!(
        zone.header("preference-applied"),
        "timezone=America/Los_Angeles"
    );
    let unknown = world
        .get("/rpc/hello")
        .prefer("timezone=Nowhere,handling=strict")
        .send()
        .await;
    unknown.expect_error(400, "PGRST122");
    assert_ne!(
        world.read("/rpc/timezone").await,
        json!("America/Los_Angeles"),
        "the preference ends with its request"
    );
}

#[tokio::test]
async fn functions_cannot_become_somebody_else() {
    let world = World::new().await;
    let answer = world.post("/rpc/try_reset", &json!({})).send().await;
    assert_eq!(
        answer.json(),
        json!("authenticator"),
        "not the superuser that the stack connects as"
    );
    world.read("/clients?limit=1").await;
}
