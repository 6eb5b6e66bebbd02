"""An app that asks at its start, and gets what it asked for while its first calls wait."""

import asyncio

from check import equal, fails, run, sdk

rtx = sdk(permissions=["api.agents", "made.up"])


async def the_first_calls_wait_with_the_registration() -> None:
    _, agents = await asyncio.gather(rtx.register(), rtx.api.get_agents())
    equal([agent["slug"] for agent in agents], ["echo"])


async def a_denial_is_an_error() -> None:
    error = await fails(rtx.api.get_workspaces())
    equal(error.permission, "api.workspaces")


run([the_first_calls_wait_with_the_registration, a_denial_is_an_error])
