"""The Python clients `supabase` and `realtime` against the Realtime server."""

import asyncio
import os
import sys

from supabase import acreate_client

from bridge import Inbox, sql, subscribed

URL = os.environ["URL"]
ANON_KEY = os.environ["ANON_KEY"]
ANN_TOKEN = os.environ["ANN_TOKEN"]


async def broadcast_between_two_clients() -> None:
    one, two = await acreate_client(URL, ANON_KEY), await acreate_client(URL, ANON_KEY)
    received, own = Inbox("broadcast"), Inbox("own broadcast")
    listener = two.channel("room").on_broadcast("note", received.put)
    sender = one.channel("room", {"config": {"broadcast": {"self": True, "ack": True}}})
    sender.on_broadcast("note", own.put)
    await subscribed(listener)
    await subscribed(sender)
    await sender.send_broadcast("note", {"n": 1, "text": 'ž"\\'})
    assert (await received.take())["payload"] == {"n": 1, "text": 'ž"\\'}
    assert (await own.take())["event"] == "note"
    await one.remove_all_channels()
    await two.remove_all_channels()


async def presence_of_two_clients() -> None:
    one, two = await acreate_client(URL, ANON_KEY), await acreate_client(URL, ANON_KEY)
    joins, leaves = Inbox("presence join"), Inbox("presence leave")
    watcher = two.channel("hall", {"config": {"presence": {"key": "watcher", "enabled": True}}})
    watcher.on_presence_sync(lambda: None)
    watcher.on_presence_join(lambda key, current, new: joins.put((key, new)))
    watcher.on_presence_leave(lambda key, current, left: leaves.put((key, left)))
    await subscribed(watcher)
    worker = one.channel("hall", {"config": {"presence": {"key": "worker", "enabled": True}}})
    await subscribed(worker)
    await worker.track({"job": 1})
    key, new = await joins.take()
    assert key == "worker" and new[0]["job"] == 1, (key, new)
    await worker.untrack()
    key, _ = await leaves.take()
    assert key == "worker", key
    await one.remove_all_channels()
    await two.remove_all_channels()


async def changes_of_rows() -> None:
    client = await acreate_client(URL, ANON_KEY)
    every, some = Inbox("change"), Inbox("filtered change")
    channel = client.channel("rows")
    channel.on_postgres_changes("*", every.put, table="items", schema="public")
    channel.on_postgres_changes("UPDATE", some.put, table="items", schema="public", filter="id=eq.2")
    await subscribed(channel)
    await sql("insert into items values (1, 'a'), (2, 'b')")
    await sql("update items set name = 'c'")
    await sql("delete from items")
    first = (await every.take())["data"]
    assert first["type"] == "INSERT" and first["record"]["name"] == "a", first
    second = (await every.take())["data"]
    assert second["record"]["id"] == 2, second
    updated = (await some.take())["data"]
    assert updated["old_record"] == {"id": 2}, updated
    kinds = [(await every.take())["data"]["type"] for _ in range(4)]
    assert kinds == ["UPDATE", "UPDATE", "DELETE", "DELETE"], kinds
    await client.remove_all_channels()


async def changes_for_whom_no_key_is_published() -> None:
    """An error event has a timestamp, or the client's models refuse it."""
    client = await acreate_client(URL, ANON_KEY)
    changes = Inbox("error event")
    channel = client.channel("keyless")
    channel.on_postgres_changes("INSERT", changes.put, table="keyless", schema="public")
    await subscribed(channel)
    await sql("insert into keyless values (1)")
    data = (await changes.take())["data"]
    assert data["errors"] == ["Error 400: Bad Request, no primary key"], data
    await client.remove_all_channels()


async def private_channels_and_messages_from_sql() -> None:
    client = await acreate_client(URL, ANON_KEY)
    await client.realtime.set_auth(ANN_TOKEN)
    messages = Inbox("message")
    channel = client.channel("room:ann", {"config": {"private": True}})
    channel.on_broadcast("stored", messages.put)
    await subscribed(channel)
    await sql("select realtime.send('{\"n\": 1}', 'stored', 'room:ann')")
    message = await messages.take()
    assert message["payload"]["n"] == 1, message
    await client.remove_all_channels()


async def row_level_security() -> None:
    client = await acreate_client(URL, ANON_KEY)
    await client.realtime.set_auth(ANN_TOKEN)
    notes = Inbox("note")
    channel = client.channel("notes")
    channel.on_postgres_changes("INSERT", notes.put, table="notes", schema="public")
    await subscribed(channel)
    await sql("insert into notes values (11, 'bob'), (12, 'ann')")
    assert (await notes.take())["data"]["record"]["id"] == 12
    await client.remove_all_channels()


async def main() -> None:
    for step in (
        broadcast_between_two_clients,
        presence_of_two_clients,
        changes_of_rows,
        changes_for_whom_no_key_is_published,
        private_channels_and_messages_from_sql,
        row_level_security,
    ):
        await asyncio.wait_for(step(), 60)
        print("done", step.__name__, flush=True)


asyncio.run(main())
sys.exit(0)
