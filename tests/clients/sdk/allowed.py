"""Every core method of the Python SDK, for a caller that may do everything."""

import os
import uuid

from check import URL, equal, fails, run, sdk, until

rtx = sdk()
APP_ID = os.environ.get("RTX_APP_ID")
NOWHERE = "00000000-0000-4000-8000-000000000000"


async def ping() -> None:
    pong = await rtx.ping()
    equal((pong["success"], pong["mode"], pong.get("appId")), (True, "production" if APP_ID else "development", APP_ID))
    equal(rtx.ping_sync()["message"], "pong")


async def data_dir() -> None:
    path = await rtx.get_app_data_dir()
    assert os.access(path, os.W_OK), path


async def agents_workspaces_threads() -> None:
    equal([agent["slug"] for agent in await rtx.api.get_agents()], ["echo"])
    equal([one["slug"] for one in await rtx.api.get_workspaces()], ["default", "my ops/1"])
    equal([one["slug"] for one in await rtx.api.get_threads("default")], ["general"])
    equal(str(await fails(rtx.api.get_threads("undefined"))), "Workspace not found")
    # Python does not encode the slash: another path, and a clean answer.
    error = str(await fails(rtx.api.get_threads("my ops/1")))
    assert error.startswith("Route not found: GET /workspaces/"), error


async def an_agent_is_started() -> None:
    event = str(uuid.uuid4())
    start = lambda: rtx.webhook.trigger_agent(  # noqa: E731: called twice
        {"n": 7}, auto_run=True, agent_name="echo", workspace_slug="default", prompt="go", event_id=event, attempt_id=3
    )
    started = await start()
    equal(
        (started["message"], started["auto_run"], started["event_id"], started["event_type"]),
        ("Agent triggered", True, event, "task.trigger"),
    )
    equal(started["contract_version"], "local-app-contract/v1")
    # The same event again is the same task.
    equal((await start())["task_uuid"], started["task_uuid"])

    async def done():
        task = await rtx.api.get_task(started["task_uuid"])
        return task if task["status"] == "completed" and task["runs"][0]["status"] == "completed" else None

    task = await until("the task is done", done)
    equal((len(task["runs"]), task["runs"][0]["agent_name"], task["action_type"]), (1, "echo", "SDK_TRIGGER"))
    equal((await rtx.activities.get(started["task_uuid"]))["result"]["n"], 7)


async def made() -> str:
    task = await rtx.webhook.trigger_agent({"a": 1})
    equal((task["message"], task["auto_run"]), ("Calendar event created", False))
    return task["task_uuid"]


async def an_app_does_its_task_itself() -> None:
    task = await made()
    equal((await rtx.api.get_task(task))["status"], "pending")
    for event, status in [("claim", "claimed"), ("start", "processing")]:
        answer = await getattr(rtx.task, event)(task, machine_id="m1", attempt_id=1)
        equal((answer["status"], answer["attempt_id"]), (status, "run-1"))
        equal((await rtx.api.get_task(task))["status"], status)
    equal((await rtx.task.progress(task, {"pct": 50}))["status"], "processing")
    event = str(uuid.uuid4())
    answer = await rtx.task.complete(task, {"summary": "ok"}, event_id=event)
    equal((answer["status"], answer["event_id"], answer.get("deduplicated")), ("completed", event, None))
    again = await rtx.task.complete(task, {"summary": "ok"}, event_id=event)
    equal((again["status"], again["deduplicated"]), ("completed", True))
    equal((await rtx.activities.get(task))["result"], {"summary": "ok"})
    late = await rtx.task.cancel(task, "late")
    equal((late["status"], late["duplicate"]), ("completed", True))


async def tasks_fail_and_are_canceled() -> None:
    task = await made()
    equal((await rtx.task.fail(task, "bad"))["status"], "failed")
    equal((await rtx.api.get_task(task))["error"], "bad")
    task = await made()
    equal((await rtx.task.cancel(task, "why"))["status"], "canceled")
    equal((await rtx.api.get_task(task))["status"], "canceled")
    assert "not found" in str(await fails(rtx.task.complete(NOWHERE)))


async def webhook_ping() -> None:
    equal(await rtx.webhook.ping(), {"success": True, "app_name": "Demo", "message": "pong"})


async def activities() -> None:
    row = await rtx.activities.insert({"type": "order", "text": "é"})
    equal((row["status"], row["raw_data"]), ("pending", {"type": "order", "text": "é"}))
    equal((await rtx.activities.list())[0]["id"], row["id"])
    equal((await rtx.activities.update(row["id"], {"status": "processed"}))["status"], "processed")
    equal([one["id"] for one in await rtx.activities.list(status="processed", limit=5)], [row["id"]])
    equal(len(await rtx.activities.list(limit=1, offset=0)), 1)
    await rtx.activities.delete(row["id"])
    equal(await rtx.activities.get(row["id"]), None)
    equal(await rtx.activities.get("nope"), None)
    equal((await fails(rtx.activities.delete(row["id"]))).response.status_code, 404)


async def no_language_model() -> None:
    equal((await rtx.llm.chat_providers()).providers, [])
    equal((await rtx.llm.embed_providers()).providers, [])
    from realtimex_sdk.llm import ChatMessage

    messages = [ChatMessage(role="user", content="hi")]
    for call in [rtx.llm.chat(messages), rtx.llm.embed(["hi"])]:
        error = await fails(call)
        equal(type(error).__name__, "LLMProviderError")
        assert "No LLM provider is configured" in str(error), error

    async def stream() -> None:
        async for chunk in rtx.llm.chat_stream(messages):
            raise AssertionError(chunk)

    equal(type(await fails(stream())).__name__, "LLMProviderError")


async def no_vector_store() -> None:
    equal((await rtx.llm.vectors.list_providers()).providers, [])
    for call in [rtx.llm.vectors.query([1.0]), rtx.llm.vectors.list_workspaces(), rtx.llm.vectors.get_config()]:
        try:
            answer = await call
        except Exception as error:  # noqa: BLE001: the SDK raises for some codes and returns for others
            assert "No LLM provider" in str(error), error
        else:
            equal(answer.success, False)


async def database() -> None:
    config = await rtx.database.get_config()
    equal((config.url, config.mode, config.max_concurrent_tasks), ("https://demo.supabase.co", "compatible", 3))
    equal((config.tables, getattr(config, "anon_key", "anon")), (["public.rtx_activities"], "anon"))


async def auth() -> None:
    equal(await rtx.auth.get_access_token(), None)


async def contract() -> None:
    found = await rtx.contract.get_local_app_v1()
    equal((found["version"], found["strictness"], len(found["supported_events"])), ("local-app-contract/v1", "compatible", 8))
    equal((len(found["aliases"]), found["callback"]["event_id_header"]), (21, "x-rtx-event-id"))


async def extras() -> None:
    equal(await rtx.tts.list_providers(), [])
    equal(await rtx.mcp.get_servers(), [])
    assert "does not offer" in str(await fails(rtx.credentials.list()))
    assert rtx.port.get_port() >= 1024


async def a_base_url_that_ends_in_a_slash() -> None:
    from realtimex_sdk import RealtimeXSDK
    from realtimex_sdk.client import SDKConfig

    slash = RealtimeXSDK(SDKConfig(url=f"{URL}/", app_name="Demo"))
    equal((await slash.llm.chat_providers()).providers, [])


run([
    ping,
    data_dir,
    agents_workspaces_threads,
    an_agent_is_started,
    an_app_does_its_task_itself,
    tasks_fail_and_are_canceled,
    webhook_ping,
    activities,
    no_language_model,
    no_vector_store,
    database,
    auth,
    contract,
    extras,
    a_base_url_that_ends_in_a_slash,
])
