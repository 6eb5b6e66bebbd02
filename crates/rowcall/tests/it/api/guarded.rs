//! Pages in a browser: other origins, rebound names, and the dashboard's cookie.

use reqwest::Method;
use rowcall::api::catalogue;

use super::world::{As, World};
use crate::support::http_client;

#[tokio::test]
async fn no_page_of_another_origin_reaches_any_route() {
    let world = World::start().await;
    for route in catalogue() {
        let method: Method = route.method.parse().unwrap();
        for (name, value, code) in [
            ("origin", "https://example.com", "FOREIGN_ORIGIN"),
            ("origin", "null", "FOREIGN_ORIGIN"),
            ("origin", "http://localhost:5173", "FOREIGN_ORIGIN"),
            ("host", "rebound.example.com", "FOREIGN_HOST"),
            ("host", "127.0.0.1.nip.io:3001", "FOREIGN_HOST"),
        ] {
            // Even with the operator's own token.
            let request = world
                .request(method.clone(), route.path, As::Operator)
                .header(name, value);
            let (status, answer) = world.send(request).await;
            assert_eq!(
                (status, answer["code"].as_str()),
                (403, Some(code)),
                "{route:?} {name}: {value}"
            );
        }
    }
    // A preflight is refused as well, and nothing ever allows another origin.
    let request = world
        .request(Method::OPTIONS, "/sdk/register", As::Nobody)
        .header("origin", "https://example.com");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 403);
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    world.daemon.stop().await;
}

#[tokio::test]
async fn the_dashboards_cookie_works_for_its_own_page_only() {
    let world = World::start().await;
    let answer = world
        .request(Method::POST, "/rowcall/v1/session", As::Operator)
        .send()
        .await
        .unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let ask = async |headers: &[(&str, String)]| {
        let mut request = world
            .request(Method::GET, "/rowcall/v1/tasks", As::Nobody)
            .header("cookie", &cookie);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        world.send(request).await.0
    };
    let own = world.daemon.api();
    assert_eq!(ask(&[]).await, 200);
    assert_eq!(
        ask(&[("sec-fetch-site", "same-origin".into()), ("origin", own)]).await,
        200
    );
    // A page of another server on this machine is of the same site, and its browser sends the cookie.
    assert_eq!(ask(&[("sec-fetch-site", "same-site".into())]).await, 403);
    assert_eq!(ask(&[("sec-fetch-site", "cross-site".into())]).await, 403);
    // Its links may lead to us, but not with the cookie.
    let link = [
        ("mode", "navigate"),
        ("dest", "document"),
        ("site", "same-site"),
    ];
    let link = link.map(|(name, value)| (format!("sec-fetch-{name}"), value.to_owned()));
    let link = link
        .each_ref()
        .map(|(name, value)| (name.as_str(), value.clone()));
    assert_eq!(ask(&link).await, 401);
    assert_eq!(ask(&[("origin", "http://127.0.0.1:1".into())]).await, 403);
    // The token itself is no cookie, and the cookie no token.
    let request = world.request(Method::GET, "/rowcall/v1/tasks", As::Nobody);
    let request = request.header("cookie", format!("rowcall_session={}", world.token()));
    assert_eq!(world.send(request).await.0, 401);
    let value = cookie.split_once('=').unwrap().1;
    assert_eq!(world.get("/rowcall/v1/tasks", As::Key(value)).await.0, 401);
    world.daemon.stop().await;
}

#[tokio::test]
async fn forms_are_not_taken_for_json() {
    let world = World::start().await;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        let request = world
            .request(Method::POST, "/sdk/register", As::Nobody)
            .header("content-type", kind)
            .body(r#"{"app_id":"x","permissions":["a"]}"#);
        // Two content types were given: the one that is no JSON counts.
        let (status, answer) = world.send(request).await;
        assert!(status == 415 || status == 404, "{kind}: {status} {answer}");
    }
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(format!("{}/sdk/register", world.daemon.api()))
        .header("content-type", "text/plain")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 415);
    world.daemon.stop().await;
}

/// The addresses of this machine that listen on a port, as the kernel writes them.
fn listening(file: &str, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    std::fs::read_to_string(file)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next()?, fields.nth(1)?);
            // 0A is a socket that listens.
            (state == "0A")
                .then(|| local.strip_suffix(&port))
                .flatten()
                .map(str::to_owned)
        })
        .collect()
}

#[tokio::test]
async fn both_loopback_addresses_are_served_and_no_other() {
    let world = World::start().await;
    let port: u16 = world
        .daemon
        .api()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(listening("/proc/net/tcp", port), ["0100007F"]);
    let six = listening("/proc/net/tcp6", port);
    let has_six = std::net::TcpListener::bind("[::1]:0").is_ok();
    if has_six {
        assert_eq!(six, ["00000000000000000000000001000000"]);
        let request = http_client().get(format!("http://[::1]:{port}/api/ping"));
        assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
    } else {
        assert_eq!(six, Vec::<String>::new());
    }
    world.daemon.stop().await;
}
