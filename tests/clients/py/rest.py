"""What applications do with supabase-py and the database, against the fixture of the REST tests."""

import os

from postgrest import CountMethod
from postgrest.types import ReturnMethod

from check import client, equal, fails, run

anon = client()
service = client(os.environ["SERVICE_ROLE_KEY"])


def ids(answer):
    return [row["id"] for row in answer.data]


def kinds():
    return anon.table("kinds").select("id").order("id")


def filters():
    for query, expected in [
        (kinds().eq("i", 1), [1]),
        (kinds().neq("i", 1), [2]),
        (kinds().gt("i", 1), [2]),
        (kinds().gte("i", 1), [1, 2]),
        (kinds().lt("i", 2), [1]),
        (kinds().lte("i", 1), [1]),
        (kinds().like("t", "%ne"), [1]),
        (kinds().like_any_of("t", "o%,t%"), [1, 2]),
        (kinds().ilike("t", "ONE"), [1]),
        (kinds().ilike_all_of("t", "O%,%E"), [1]),
        (kinds().is_("i", "null"), [3]),
        (kinds().not_.is_("i", "null"), [1, 2]),
        (kinds().in_("t", ["one", "a,b (c)", "two"]), [1, 2]),
        (kinds().in_("i", []), []),
        (kinds().contains("a", ["2"]), [1, 2]),
        (kinds().contains("jb", {"k": {"x": 2}}), [2]),
        (kinds().contained_by("a", ["1", "2", "9"]), [1]),
        (kinds().overlaps("a", ["3"]), [2]),
        (kinds().range_gt("r", (1, 5)), [2]),
        (kinds().range_adjacent("r", (9, 20)), [2]),
        (kinds().text_search("v", "fat cat", {"type": "plain", "config": "english"}), [1]),
        (kinds().fts("v", "cat"), [1]),
        (kinds().match({"i": 1, "t": "one"}), [1]),
        (kinds().or_("i.eq.1,and(i.eq.2,t.eq.two)"), [1, 2]),
        (kinds().filter("jb->k->>x", "eq", "1"), [1]),
    ]:
        equal(ids(query.execute()), expected)


def select_order_range():
    row = anon.table("kinds").select("id, text:t, n::text, jb->k->x").eq("id", 1).single().execute().data
    equal(row, {"id": 1, "text": "one", "n": "1.5", "x": 1})
    equal(ids(anon.table("tasks").select("id").order("done", nullsfirst=True).order("id", desc=True).limit(3).execute()), [8, 7, 3])
    equal(ids(anon.table("tasks").select("id").order("id").range(2, 4).execute()), [3, 4, 5])
    equal(anon.table("items").select("id, code").order("id").limit(2).csv().execute().data, "id,code\n1,a\n2,b")


def counts():
    equal(anon.table("tasks").select("*", count=CountMethod.exact, head=True).execute().count, 8)
    answer = anon.table("tasks").select("id", count="exact").order("id").range(0, 1).execute()
    equal((answer.data, answer.count), ([{"id": 1}, {"id": 2}], 8))
    equal(anon.table("many").select("id", count="planned").limit(1).execute().count, 1500)
    equal(anon.table("many").select("id", count="estimated").limit(1).execute().count, 1500)
    equal(anon.table("tasks").select("id", count="exact").eq("id", 99).execute().count, 0)
    fails(lambda: anon.table("tasks").select("id", count="exact").range(20, 30).execute(), "PGRST103")


def single():
    fails(lambda: anon.table("clients").select("*").single().execute(), "PGRST116")
    equal(anon.table("clients").select("*").eq("id", 99).maybe_single().execute(), None)
    equal(anon.table("clients").select("name").eq("id", 1).maybe_single().execute().data, {"name": "Microsoft"})
    fails(lambda: anon.table("clients").select("*").maybe_single().execute(), "406")


def embeds():
    rows = (
        anon.table("clients")
        .select("name, projects(id, tasks(id))")
        .eq("projects.name", "Windows 7")
        .order("id")
        .limit(1, foreign_table="projects.tasks")
        .order("id", foreign_table="projects.tasks")
        .execute()
        .data
    )
    equal(rows, [{"name": "Microsoft", "projects": [{"id": 1, "tasks": [{"id": 1}]}]}, {"name": "Apple", "projects": []}])
    equal(ids(anon.table("projects").select("id, clients!inner(id)").eq("clients.name", "Apple").order("id").execute()), [3, 4])
    fails(lambda: anon.table("messages").select("users(*)").execute(), "PGRST201")
    fails(lambda: anon.table("messages").select("nothing(*)").execute(), "PGRST200")


def insert():
    equal(anon.table("items").insert({"id": 300, "code": "py"}).execute().data, [{"id": 300, "code": "py", "amount": 7, "note": None}])
    equal(anon.table("items").insert({"id": 301}, returning=ReturnMethod.minimal).execute().data, [])
    rows = anon.table("items").insert([{"id": 302}, {"id": 303, "amount": 1}], default_to_null=False).execute().data
    equal([(row["id"], row["amount"]) for row in rows], [(302, 7), (303, 1)])
    equal(anon.table("items").insert([{"id": 304}, {"id": 305}], count="exact").execute().count, 2)
    equal(fails(lambda: anon.table("items").insert({"id": 300}).execute(), "23505").message.split(" ")[0], "duplicate")
    fails(lambda: anon.table("items").insert({"nope": 1}).execute(), "PGRST204")


def upsert():
    equal(anon.table("items").upsert({"id": 1, "note": "u"}).execute().data[0]["note"], "u")
    equal(anon.table("items").upsert({"id": 1, "note": "w"}, ignore_duplicates=True).execute().data, [])
    equal(anon.table("items").upsert({"id": 311, "code": "b", "note": "x"}, on_conflict="code").execute().data[0]["id"], 311)


def update_and_delete():
    equal(anon.table("items").update({"note": "m"}).eq("id", 3).eq("note", "other").execute().data, [])
    equal(anon.table("items").update({"note": "m"}).eq("id", 3).execute().data[0]["note"], "m")
    equal(anon.table("items").update({"note": "n"}, count="exact").in_("id", [3, 300]).execute().count, 2)
    fails(lambda: anon.table("items").update({"note": "p"}).in_("id", [3, 300]).max_affected(1).execute(), "PGRST124")
    equal([row["id"] for row in anon.table("items").delete().eq("id", 301).execute().data], [301])


def functions():
    equal(anon.rpc("add", {"a": 1, "b": 2}).execute().data, 3)
    equal(anon.rpc("add", {"a": 1}, get=True).execute().data, 11)
    equal(anon.rpc("hello", {}).execute().data, "hello")
    equal(anon.rpc("a_json", {}).execute().data, {"a": [1, 2]})
    equal(anon.rpc("numbers", {}).execute().data, [1, 2, 3])
    equal(anon.rpc("all_projects", {}).select("id").eq("id", 3).execute().data, [{"id": 3}])
    equal(anon.rpc("all_projects", {}, count="exact", head=True).execute().count, 5)
    error = fails(lambda: anon.rpc("fails", {}).execute(), "P0001")
    equal((error.message, error.details, error.hint), ("no way", "d", "h"))
    fails(lambda: anon.rpc("missing_function", {}).execute(), "PGRST202")
    anon.rpc("nothing", {}).execute()


def schemas_and_keys():
    equal(anon.schema("other").table("things").select("id").eq("id", 1).execute().data, [{"id": 1}])
    fails(lambda: anon.schema("hidden").table("things").select("*").execute(), "PGRST106")
    equal(client(os.environ["PUBLISHABLE_KEY"]).rpc("whoami", {}).execute().data["user"], "anon")
    equal(client(os.environ["SECRET_KEY"]).rpc("whoami", {}).execute().data["user"], "service_role")


def row_level_security():
    equal(anon.table("notes").select("*").execute().data, [])
    fails(lambda: anon.table("notes").insert({"text": "x"}).execute(), "42501")
    service.table("notes").insert({"text": "by service"}).execute()
    equal(anon.table("notes").select("*").execute().data, [])
    equal(len(service.table("notes").select("*").execute().data), 1)
    fails(lambda: anon.table("secrets").select("*").execute(), "42501")


run([
    filters, select_order_range, counts, single, embeds, insert, upsert, update_and_delete, functions, schemas_and_keys,
    row_level_security,
])
