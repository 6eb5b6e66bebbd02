"""An app that asks at its start, and gets what it asked for while its first calls wait; then for more, call by call."""

import asyncio

from check import equal, fails, run, sdk
from realtimex_sdk.llm import ChatMessage

rtx = sdk(permissions=["api.agents", "made.up"])
NOWHERE = "00000000-0000-4000-8000-000000000000"


async def the_first_calls_wait_with_the_registration() -> None:
    _, agents = await asyncio.gather(rtx.register(), rtx.api.get_agents())
    equal([agent["slug"] for agent in agents], ["echo"])


async def a_denial_is_an_error() -> None:
    error = await fails(rtx.api.get_workspaces())
    equal(error.permission, "api.workspaces")


# What each call comes to once its permission was granted, while it waited: one check for each, in this order.


async def threads() -> None:
    equal([one["slug"] for one in await rtx.api.get_threads("default")], ["general"])


async def task() -> None:
    equal(str(await fails(rtx.api.get_task(NOWHERE))), "Task not found")


async def trigger() -> None:
    equal((await rtx.webhook.trigger_agent({}))["message"], "Calendar event created")


made: list[str] = []


async def write_activities() -> None:
    row = await rtx.activities.insert({"a": 1})
    equal(row["status"], "pending")
    made.append(row["id"])


async def read_activities() -> None:
    # Not `list`, and not a row that is missing: there this SDK stumbles over its own second call.
    equal((await rtx.activities.get(made[0]))["raw_data"], {"a": 1})


async def providers() -> None:
    equal((await rtx.llm.chat_providers()).providers, [])


async def no_provider(call) -> None:
    """The SDK raises for some codes and returns for others; either way the permission was enough."""
    try:
        answer = await call
    except Exception as error:  # noqa: BLE001: whichever it is
        assert "No LLM provider" in str(error), error
    else:
        equal(answer.success, False)


async def chat() -> None:
    await no_provider(rtx.llm.chat([ChatMessage(role="user", content="hi")]))


async def embed() -> None:
    await no_provider(rtx.llm.embed(["hi"]))


async def read_vectors() -> None:
    await no_provider(rtx.llm.vectors.query([1.0]))


async def write_vectors() -> None:
    await no_provider(rtx.llm.vectors.upsert([]))


run([
    the_first_calls_wait_with_the_registration,
    a_denial_is_an_error,
    threads,
    task,
    trigger,
    write_activities,
    read_activities,
    providers,
    chat,
    embed,
    read_vectors,
    write_vectors,
])
