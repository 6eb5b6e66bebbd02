"""An app whose permissions were all denied: every module raises its own error, and nothing loops."""

from typing import Awaitable, Callable

from check import equal, fails, run, sdk
from realtimex_sdk.llm import ChatMessage

rtx = sdk()
NOWHERE = "00000000-0000-4000-8000-000000000000"
CALLS: dict[str, Callable[[], Awaitable]] = {
    "api.agents": lambda: rtx.api.get_agents(),
    "api.workspaces": lambda: rtx.api.get_workspaces(),
    "api.threads": lambda: rtx.api.get_threads("default"),
    "api.task": lambda: rtx.api.get_task(NOWHERE),
    "webhook.trigger": lambda: rtx.webhook.trigger_agent({}),
    "activities.read": lambda: rtx.activities.get(NOWHERE),
    "activities.write": lambda: rtx.activities.insert({}),
    "llm.providers": lambda: rtx.llm.chat_providers(),
    "llm.chat": lambda: rtx.llm.chat([ChatMessage(role="user", content="hi")]),
    "llm.embed": lambda: rtx.llm.embed(["hi"]),
    "vectors.read": lambda: rtx.llm.vectors.query([1.0]),
    "vectors.write": lambda: rtx.llm.vectors.upsert([]),
    "api.contracts": lambda: rtx.contract.get_local_app_v1(),
}


def check(permission: str) -> Callable[[], Awaitable[None]]:
    async def refused() -> None:
        error = await fails(CALLS[permission]())
        equal((type(error).__name__, error.permission), ("PermissionDeniedError", permission))

    refused.__name__ = permission
    return refused


async def no_prompt_for_the_database() -> None:
    assert "PERMISSION_REQUIRED" in str(await fails(rtx.database.get_config()))


run([*map(check, CALLS), no_prompt_for_the_database])
