//! Embedded resources.

use serde_json::json;

use super::world::World;

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn relationships_of_every_sort_are_embedded() {
    let world = World::new().await;
    for (query, expected) in [
        // many to one, one to many, nested
        (
            "/projects?select=id,clients(name)&id=in.(1,5)&order=id",
            json!([{"id": 1, "clients": {"name": "Microsoft"}}, {"id": 5, "clients": null}]),
        ),
        (
            "/clients?select=name,projects(id)&order=id&projects.order=id",
            json!([{"name": "Microsoft", "projects": [{"id": 1}, {"id": 2}]}, {"name": "Apple", "projects": [{"id": 3}, {"id": 4}]}]),
        ),
        (
            "/clients?select=id,projects(id,tasks(id))&id=eq.1&projects.id=eq.2&projects.tasks.order=id.desc",
            json!([{"id": 1, "projects": [{"id": 2, "tasks": [{"id": 4}, {"id": 3}]}]}]),
        ),
        (
            "/users?select=id,tasks(id)&id=eq.3",
            json!([{"id": 3, "tasks": []}]),
        ),
        // many to many, one to one both ways
        (
            "/users?select=name,tasks(name)&id=eq.1&tasks.order=id",
            json!([{"name": "Angela", "tasks": [{"name": "Design w7"}, {"name": "Code w7"}]}]),
        ),
        (
            "/users?select=name,passports(number)&id=in.(1,3)&order=id",
            json!([{"name": "Angela", "passports": {"number": "P1"}}, {"name": "Dwight", "passports": null}]),
        ),
        (
            "/passports?select=number,users(name)&user_id=eq.2",
            json!([{"number": "P2", "users": {"name": "Michael"}}]),
        ),
        // self references: the table's name means the children, the column's the parent
        (
            "/tree?select=name,tree(name)&id=eq.1&tree.order=id",
            json!([{"name": "root", "tree": [{"name": "left"}, {"name": "right"}]}]),
        ),
        (
            "/tree?select=name,parent(name)&id=eq.4",
            json!([{"name": "leaf", "parent": {"name": "left"}}]),
        ),
        (
            "/tree?select=name,children:tree!parent(name)&id=eq.2",
            json!([{"name": "left", "children": [{"name": "leaf"}]}]),
        ),
        // hints and aliases
        (
            "/messages?select=body,from:users!messages_sender_fkey(name),to:users!recipient(name)&id=eq.1",
            json!([{"body": "hi", "from": {"name": "Angela"}, "to": {"name": "Michael"}}]),
        ),
        (
            "/messages?select=body,sender(name)&id=eq.1",
            json!([{"body": "hi", "sender": {"name": "Angela"}}]),
        ),
        (
            "/messages?select=body,messages_recipient_fkey(name)&id=eq.1",
            json!([{"body": "hi", "messages_recipient_fkey": {"name": "Michael"}}]),
        ),
        (
            "/users?select=id,tasks!users_tasks(id)&id=eq.2&tasks.order=id",
            json!([{"id": 2, "tasks": [{"id": 5}, {"id": 6}]}]),
        ),
        (
            "/users?select=name,sent:messages!sender(body)&id=eq.1",
            json!([{"name": "Angela", "sent": [{"body": "hi"}]}]),
        ),
        // inner joins and conditions on embeds
        (
            "/projects?select=id,clients!inner(name)&clients.name=eq.Apple&order=id",
            json!([{"id": 3, "clients": {"name": "Apple"}}, {"id": 4, "clients": {"name": "Apple"}}]),
        ),
        (
            "/clients?select=id,projects!inner(id)&projects.name=like.*7",
            json!([{"id": 1, "projects": [{"id": 1}]}]),
        ),
        (
            "/projects?select=id,clients()&clients=is.null",
            json!([{"id": 5}]),
        ),
        (
            "/users?select=id,tasks()&tasks=not.is.null&order=id",
            json!([{"id": 1}, {"id": 2}]),
        ),
        (
            "/users?select=id,tasks(id)&tasks=is.null",
            json!([{"id": 3, "tasks": []}]),
        ),
        (
            "/users?select=id,tasks()&or=(tasks.is.null,id.eq.1)&order=id",
            json!([{"id": 1}, {"id": 3}]),
        ),
        (
            "/clients?select=id,projects(id)&projects.or=(id.eq.1,id.eq.3)&order=id",
            json!([{"id": 1, "projects": [{"id": 1}]}, {"id": 2, "projects": [{"id": 3}]}]),
        ),
        (
            "/clients?select=id,projects(id)&projects.limit=1&projects.offset=1&projects.order=id&order=id",
            json!([{"id": 1, "projects": [{"id": 2}]}, {"id": 2, "projects": [{"id": 4}]}]),
        ),
        (
            "/clients?select=id,p:projects(id)&p.id=eq.1&order=id",
            json!([{"id": 1, "p": [{"id": 1}]}, {"id": 2, "p": []}]),
        ),
        // counts
        (
            "/clients?select=id,projects(count)&order=id",
            json!([{"id": 1, "projects": [{"count": 2}]}, {"id": 2, "projects": [{"count": 2}]}]),
        ),
        // computed
        (
            "/projects?select=id,computed_client(name)&id=eq.3",
            json!([{"id": 3, "computed_client": {"name": "Apple"}}]),
        ),
        (
            "/clients?select=id,computed_projects(id,shout)&id=eq.2&computed_projects.order=id",
            json!([{"id": 2, "computed_projects": [{"id": 3, "shout": "IOS"}, {"id": 4, "shout": "OSX"}]}]),
        ),
        // views: of hidden tables, upon views, beside tables, both ways
        (
            "/parts?select=label,makers(name)&order=part",
            json!([{"label": "bolt", "makers": {"name": "ACME"}}, {"label": "nut", "makers": {"name": "ACME"}}]),
        ),
        (
            "/makers?select=name,parts(label),bolts(part)&parts.order=part",
            json!([{"name": "ACME", "parts": [{"label": "bolt"}, {"label": "nut"}], "bolts": [{"part": 1}]}]),
        ),
        (
            "/windows?select=id,clients(name),client_view(title),tasks(id)&id=eq.1&tasks.order=id",
            json!([{"id": 1, "clients": {"name": "Microsoft"}, "client_view": {"title": "Microsoft"}, "tasks": [{"id": 1}, {"id": 2}]}]),
        ),
        (
            "/client_view?select=title,projects!inner(id)&projects.id=eq.3",
            json!([{"title": "Apple", "projects": [{"id": 3}]}]),
        ),
        // spread
        (
            "/projects?select=id,...clients(client:name)&id=in.(3,5)&order=id",
            json!([{"id": 3, "client": "Apple"}, {"id": 5, "client": null}]),
        ),
        (
            "/tasks?select=id,...projects(project:name,...clients(client:name))&id=eq.1",
            json!([{"id": 1, "project": "Windows 7", "client": "Microsoft"}]),
        ),
        (
            "/clients?select=id,...projects(names:name,ids:id)&id=eq.1&projects.order=id",
            json!([{"id": 1, "names": ["Windows 7", "Windows 10"], "ids": [1, 2]}]),
        ),
        (
            "/users?select=id,...tasks(name)&id=eq.3",
            json!([{"id": 3, "name": []}]),
        ),
    ] {
        assert_eq!(world.read(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn unclear_and_unknown_relationships_are_told() {
    let world = World::new().await;
    let error = world
        .get("/projects?select=id,nothing(*)")
        .send()
        .await
        .expect_error(400, "PGRST200");
    assert_eq!(
        error["message"],
        "Could not find a relationship between 'projects' and 'nothing' in the schema cache"
    );
    let error = world
        .get("/projects?select=id,client(*)")
        .send()
        .await
        .expect_error(400, "PGRST200");
    assert_eq!(
        error["hint"],
        "Perhaps you meant 'clients' instead of 'client'."
    );
    let error = world
        .get("/messages?select=id,users(*)")
        .send()
        .await
        .expect_error(300, "PGRST201");
    assert_eq!(
        error["message"],
        "Could not embed because more than one relationship was found for 'messages' and 'users'"
    );
    assert_eq!(
        error["details"],
        json!([
            {"cardinality": "many-to-one", "embedding": "messages with users", "relationship": "messages_recipient_fkey using messages(recipient) and users(id)"},
            {"cardinality": "many-to-one", "embedding": "messages with users", "relationship": "messages_sender_fkey using messages(sender) and users(id)"},
        ])
    );
    assert_eq!(
        error["hint"],
        "Try changing 'users' to one of the following: 'users!messages_recipient_fkey', 'users!messages_sender_fkey'. Find the \
         desired relationship in the 'details' key."
    );
    for (query, status, code) in [
        ("/projects?select=id&clients.id=eq.1", 400, "PGRST108"),
        ("/projects?select=id&clients.order=id", 400, "PGRST108"),
        ("/projects?select=id&order=clients(name)", 400, "PGRST108"),
        (
            "/clients?select=id,projects(id)&order=projects(id)",
            400,
            "PGRST118",
        ),
        (
            "/projects?select=id,clients(*)&clients=eq.1",
            400,
            "PGRST120",
        ),
    ] {
        world.get(query).send().await.expect_error(status, code);
    }
}
