//! Filters, select, order, windows, counts, media types.

use reqwest::Method;
use serde_json::json;

use super::world::World;

/// The ids that a query finds.
async fn ids(world: &World, query: &str) -> Vec<i64> {
    let found = world.read(query).await;
    let rows = found.as_array().expect("an array").iter();
    rows.map(|row| row["id"].as_i64().expect("an id")).collect()
}

#[tokio::test]
async fn every_operator_finds_what_it_should() {
    let world = World::new().await;
    for (filter, expected) in [
        ("i=eq.1", vec![1]),
        ("i=neq.1", vec![2]),
        ("i=gt.1", vec![2]),
        ("i=gte.1", vec![1, 2]),
        ("i=lt.2", vec![1]),
        ("i=lte.2", vec![1, 2]),
        ("t=like.o*", vec![1]),
        ("t=like.%25o%25", vec![1, 2, 3]),
        ("t=ilike.ONE", vec![1]),
        ("t=match.^t", vec![2]),
        ("t=imatch.^T", vec![2]),
        ("i=in.(1,2,99)", vec![1, 2]),
        ("i=in.()", vec![]),
        ("t=in.(\"per%25cent, \\\"quoted\\\" (x)\",one)", vec![1, 3]),
        ("i=is.null", vec![3]),
        ("i=is.not_null", vec![1, 2]),
        ("i=not.is.null", vec![1, 2]),
        ("b=is.true", vec![1]),
        ("b=is.FALSE", vec![2]),
        ("b=is.unknown", vec![3]),
        ("i=isdistinct.1", vec![2, 3]),
        ("a=cs.{2}", vec![1, 2]),
        ("a=cd.{1,2,9}", vec![1]),
        ("jb=cs.{\"k\":{\"x\":2}}", vec![2]),
        ("a=ov.{3,4}", vec![2]),
        ("r=ov.[4,6)", vec![1, 2]),
        ("r=sl.[5,6)", vec![1]),
        ("r=sr.[1,5)", vec![2]),
        ("r=nxr.[1,5)", vec![1]),
        ("r=nxl.[5,10)", vec![2]),
        ("r=adj.[10,20)", vec![2]),
        ("m=eq.happy", vec![1]),
        ("u=eq.00000000-0000-0000-0000-000000000002", vec![2]),
        ("d=gte.2020-06-01", vec![2]),
        ("ts=lt.2020-06-01T00:00:00.000Z", vec![1]),
        ("n=eq.1.5", vec![1]),
        ("i=not.eq.1", vec![2]),
        ("i=eq(any).{1,2}", vec![1, 2]),
        ("t=like(any).{o*,t*}", vec![1, 2]),
        ("t=ilike(all).{*O*,*E}", vec![1]),
        ("i=gt(all).{0,1}", vec![2]),
        ("v=fts.cat", vec![1]),
        ("v=fts(english).cats", vec![1]),
        ("v=plfts(english).the%20cats", vec![1]),
        ("v=phfts(english).fat%20cat", vec![1]),
        ("v=wfts(english).dog%20or%20cat", vec![1, 2]),
        ("t=fts.one", vec![1]),
        ("t=not.fts.one", vec![2, 3]),
        ("jb->k->>x=eq.1", vec![1]),
        ("j->k->>x=eq.2", vec![2]),
        ("jb->l->>0=eq.10", vec![1]),
        ("jb->l->>-1=eq.20", vec![1]),
        ("jb->>\"a b\"=eq.c", vec![1]),
        ("a->>0=eq.2", vec![2]),
        ("or=(i.eq.1,i.eq.2)", vec![1, 2]),
        ("or=(i.eq.1,and(i.eq.2,t.eq.two))", vec![1, 2]),
        ("and=(i.gt.0,or(t.eq.one,t.eq.none))", vec![1]),
        ("not.or=(i.eq.1,i.is.null)", vec![2]),
        ("or=(i.not.in.(1,2),i.is.null)", vec![3]),
        ("or=(not.and(i.gte.1,i.lte.1),i.is.null)", vec![2, 3]),
        (
            "or=(a.cs.{3},t.eq.\"per%25cent, \\\"quoted\\\" (x)\")",
            vec![2, 3],
        ),
        ("i=gte.1&i=lte.1", vec![1]),
        ("label=eq.unnamed&i=eq.2", vec![2]),
    ] {
        let found = ids(&world, &format!("/kinds?select=id&order=id&{filter}")).await;
        assert_eq!(found, expected, "{filter}");
    }
}

#[tokio::test]
async fn select_renames_casts_and_reaches_into_json() {
    let world = World::new().await;
    for (select, expected) in [
        ("id", json!({"id": 1})),
        ("nr:id", json!({"nr": 1})),
        (" id , t ", json!({"id": 1, "t": "one"})),
        ("id::text", json!({"id": "1"})),
        ("nr:id::text", json!({"nr": "1"})),
        ("jb->k", json!({"k": {"x": 1}})),
        ("jb->k->>x", json!({"x": "1"})),
        ("jb->l->0", json!({"l": 10})),
        ("jb->l->>1", json!({"l": "20"})),
        ("y:jb->k->x", json!({"y": 1})),
        ("jb->k->x::text", json!({"x": "1"})),
        ("a->0", json!({"a": 1})),
        (
            "m,r,s,b,n",
            json!({"m": "happy", "r": "[1,5)", "s": "sh", "b": true, "n": 1.5}),
        ),
    ] {
        let found = world.read(&format!("/kinds?id=eq.1&select={select}")).await;
        assert_eq!(found, json!([expected]), "{select}");
    }
    assert_eq!(
        world
            .read("/odd%20%22name?select=id,\"a,b\",\"c.d\",ключ&\"a,b\"=eq.x")
            .await,
        json!([{"id": 1, "a,b": "x", "c.d": "y", "ключ": "z"}])
    );
    assert_eq!(
        world
            .read("/projects?select=name,shout&shout=eq.IOS&order=shout")
            .await,
        json!([{"name": "IOS", "shout": "IOS"}])
    );
    assert_eq!(
        world
            .read("/clients?select=&order=id")
            .await
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

#[tokio::test]
async fn order_goes_by_several_fields_and_places_nulls() {
    let world = World::new().await;
    assert_eq!(
        ids(
            &world,
            "/tasks?select=id&order=project_id.desc,id.asc&limit=3"
        )
        .await,
        [7, 8, 5]
    );
    assert_eq!(
        ids(
            &world,
            "/tasks?select=id&order=done.asc.nullsfirst,id&limit=4"
        )
        .await,
        [3, 7, 8, 2]
    );
    assert_eq!(
        ids(
            &world,
            "/tasks?select=id&order=done.nullslast,id.desc&limit=2"
        )
        .await,
        [5, 2]
    );
    assert_eq!(
        ids(&world, "/kinds?select=id&order=jb->k->>x.desc.nullslast").await,
        [2, 1, 3]
    );
    assert_eq!(
        ids(
            &world,
            "/projects?select=id,clients(name)&order=clients(name).asc.nullslast,id.desc"
        )
        .await,
        [4, 3, 2, 1, 5]
    );
}

#[tokio::test]
async fn windows_cut_and_say_so() {
    let world = World::new().await;
    let page = world
        .get("/tasks?select=id&order=id&limit=2&offset=2")
        .send()
        .await;
    page.expect(200, json!([{"id": 3}, {"id": 4}]));
    assert_eq!(page.header("content-range"), "2-3/*");
    assert_eq!(
        page.header("content-location"),
        "/tasks?limit=2&offset=2&order=id&select=id"
    );
    assert_eq!(
        page.header("content-type"),
        "application/json; charset=utf-8"
    );

    let page = world
        .get("/tasks?select=id&order=id")
        .header("range", "6-9")
        .send()
        .await;
    page.expect(200, json!([{"id": 7}, {"id": 8}]));
    let none = world.get("/tasks?limit=0").send().await;
    none.expect(200, json!([]));
    assert_eq!(none.header("content-range"), "*/*");
    let empty = world
        .get("/tasks?id=eq.99")
        .prefer("count=exact")
        .send()
        .await;
    assert_eq!(empty.header("content-range"), "*/0");
    let counted = world
        .get("/tasks?select=id&order=id&limit=2")
        .prefer("count=exact")
        .send()
        .await;
    counted.expect(206, json!([{"id": 1}, {"id": 2}]));
    assert_eq!(counted.header("content-range"), "0-1/8");
    assert_eq!(counted.header("preference-applied"), "count=exact");
    let beyond = world
        .get("/tasks?offset=9")
        .prefer("count=exact")
        .send()
        .await;
    let error = beyond.expect_error(416, "PGRST103");
    assert_eq!(
        error["details"],
        "An offset of 9 was requested, but there are only 8 rows."
    );
    world
        .get("/tasks?limit=-1")
        .send()
        .await
        .expect_error(416, "PGRST103");
    assert_eq!(
        ids(&world, "/tasks?select=id&order=id&limit=x&offset=7").await,
        [8]
    );
}

#[tokio::test]
async fn counts_are_exact_planned_or_estimated() {
    let world = World::new().await;
    for (prefer, query, expected) in [
        ("count=exact", "/many?select=id&limit=1", "0-0/1500"),
        ("count=planned", "/many?select=id&limit=1", "0-0/1500"),
        ("count=estimated", "/many?select=id&limit=1", "0-0/1500"),
        (
            "count=estimated",
            "/many?select=id&id=lte.7&limit=1",
            "0-0/7",
        ),
        (
            "count=exact",
            "/projects?select=id,clients!inner(name)&clients.name=eq.Apple&limit=1",
            "0-0/2",
        ),
    ] {
        let answer = world.get(query).prefer(prefer).send().await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-range")),
            (206, expected),
            "{prefer} {query}"
        );
    }
    let head = world
        .ask(
            Method::HEAD,
            "/tasks?select=*&or=(done.is.true,done.is.false)",
        )
        .prefer("count=exact")
        .send()
        .await;
    head.expect_empty(200);
    assert_eq!(head.header("content-range"), "0-4/5");
    let head = world
        .ask(Method::HEAD, "/tasks?id=eq.99")
        .prefer("count=exact")
        .send()
        .await;
    assert_eq!(head.header("content-range"), "*/0");
}

#[tokio::test]
async fn answers_are_bounded_at_every_level() {
    let world = World::new().await;
    assert_eq!(ids(&world, "/many?select=id").await.len(), 1000);
    assert_eq!(ids(&world, "/many?select=id&limit=1200").await.len(), 1000);
    let world = World::with(|config| config.rest.max_rows = 1).await;
    assert_eq!(
        world
            .read("/clients?select=id,projects(id)&order=id&projects.order=id")
            .await,
        json!([{"id": 1, "projects": [{"id": 1}]}])
    );
    assert_eq!(world.read("/rpc/numbers").await, json!([1]));
}

#[tokio::test]
async fn media_types_shape_the_body() {
    let world = World::new().await;
    let single = "application/vnd.pgrst.object+json";
    let one = world
        .get("/clients?id=eq.1")
        .header("accept", single)
        .send()
        .await;
    one.expect(200, json!({"id": 1, "name": "Microsoft"}));
    assert_eq!(
        one.header("content-type"),
        "application/vnd.pgrst.object+json; charset=utf-8"
    );
    let none = world
        .get("/clients?id=eq.9")
        .header("accept", single)
        .send()
        .await;
    assert_eq!(
        none.expect_error(406, "PGRST116")["details"],
        "The result contains 0 rows"
    );
    let many = world.get("/clients").header("accept", single).send().await;
    assert_eq!(
        many.expect_error(406, "PGRST116")["details"],
        "The result contains 2 rows"
    );

    let stripped = "application/vnd.pgrst.array+json;nulls=stripped";
    let answer = world
        .get("/items?id=eq.1&select=id,note")
        .header("accept", stripped)
        .send()
        .await;
    answer.expect(200, json!([{"id": 1}]));
    assert_eq!(
        answer.header("content-type"),
        "application/vnd.pgrst.array+json;nulls=stripped; charset=utf-8"
    );
    let stripped = "application/vnd.pgrst.object+json;nulls=stripped";
    world
        .get("/items?id=eq.1&select=id,note")
        .header("accept", stripped)
        .send()
        .await
        .expect(200, json!({"id": 1}));

    let csv = world
        .get("/items?select=id,code,note&order=id&limit=2")
        .header("accept", "text/csv")
        .send()
        .await;
    assert_eq!(csv.text, "id,code,note\n1,a,\n2,b,");
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    let any = world
        .get("/clients?id=eq.1")
        .header("accept", "text/html, */*;q=0.1")
        .send()
        .await;
    assert_eq!(
        any.header("content-type"),
        "application/json; charset=utf-8"
    );
    world
        .get("/clients")
        .header("accept", "image/png")
        .send()
        .await
        .expect_error(406, "PGRST107");
    world
        .get("/clients")
        .header("accept", "application/vnd.pgrst.plan")
        .send()
        .await
        .expect_error(406, "PGRST107");
}

#[tokio::test]
async fn plans_are_shown_where_that_is_on() {
    let world = World::with(|config| config.rest.plans = true).await;
    let accept = "application/vnd.pgrst.plan+text; for=\"application/json\"; options=;";
    let plan = world
        .get("/clients?id=eq.1")
        .header("accept", accept)
        .send()
        .await;
    assert!(plan.text.contains("Aggregate"), "{}", plan.text);
    let accept =
        "application/vnd.pgrst.plan+json; for=\"application/json\"; options=analyze|verbose;";
    let plan = world
        .get("/clients?id=eq.1")
        .header("accept", accept)
        .send()
        .await;
    assert!(
        plan.json().pointer("/0/Plan/Actual Rows").is_some(),
        "{}",
        plan.text
    );
    assert_eq!(
        plan.header("content-type"),
        "application/vnd.pgrst.plan+json; for=\"application/json\"; options=analyze|verbose; charset=utf-8"
    );
}

#[tokio::test]
async fn views_partitions_and_other_schemas_are_read() {
    let world = World::new().await;
    assert_eq!(ids(&world, "/windows?select=id&order=id").await, [1, 2]);
    assert_eq!(
        ids(&world, "/project_names?select=id&order=id&limit=1").await,
        [1]
    );
    assert_eq!(ids(&world, "/parted?select=id&order=id").await, [1, 2]);
    let other = world
        .get("/things")
        .header("accept-profile", "other")
        .send()
        .await;
    other.expect(200, json!([{"id": 1, "name": "thing"}]));
    assert_eq!(other.header("content-profile"), "other");
    let wrong = world
        .get("/things")
        .header("accept-profile", "pg_catalog")
        .send()
        .await;
    let error = wrong.expect_error(406, "PGRST106");
    assert_eq!(error["message"], "Invalid schema: pg_catalog");
    assert_eq!(
        error["hint"],
        "Only the following schemas are exposed: public, other"
    );
    world
        .get("/things")
        .send()
        .await
        .expect_error(404, "PGRST205");
}

#[tokio::test]
async fn aggregates_work_where_they_are_on() {
    let world = World::new().await;
    world
        .get("/tasks?select=count()")
        .send()
        .await
        .expect_error(400, "PGRST123");
    let world = World::with(|config| config.rest.aggregates = true).await;
    for (query, expected) in [
        ("/tasks?select=count()", json!([{"count": 8}])),
        (
            "/items?select=amount.sum(),total:amount.sum()::text,amount.avg()::int",
            json!([{"sum": 6, "total": "6", "avg": 2}]),
        ),
        (
            "/items?select=amount.min(),amount.max()",
            json!([{"min": 1, "max": 3}]),
        ),
        (
            "/tasks?select=project_id,count()&order=project_id&limit=2",
            json!([{"project_id": 1, "count": 2}, {"project_id": 2, "count": 2}]),
        ),
        (
            "/clients?select=name,projects(count())&order=id",
            json!([{"name": "Microsoft", "projects": [{"count": 2}]}, {"name": "Apple", "projects": [{"count": 2}]}]),
        ),
        (
            "/projects?select=count(),...clients(name)&client_id=not.is.null&order=clients(name)",
            json!([{"count": 2, "name": "Apple"}, {"count": 2, "name": "Microsoft"}]),
        ),
        (
            "/tasks?select=done,...projects(client_id.sum())&done=is.true",
            json!([{"done": true, "sum": 4}]),
        ),
    ] {
        if query.contains("order=clients(name)") {
            // Grouped selects cannot be ordered by what is not grouped; the rows are compared sorted.
            let query = query.replace("&order=clients(name)", "");
            let mut rows = world.read(&query).await.as_array().cloned().expect("rows");
            rows.sort_by_key(ToString::to_string);
            assert_eq!(serde_json::Value::Array(rows), expected, "{query}");
        } else {
            assert_eq!(world.read(query).await, expected, "{query}");
        }
    }
}
