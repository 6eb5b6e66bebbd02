"""Named checks of the published Python SDK; all run, and the process fails if one did."""

import asyncio
import os
import sys
import time
import traceback
from typing import Any, Awaitable, Callable

from realtimex_sdk import RealtimeXSDK
from realtimex_sdk.client import SDKConfig

URL = os.environ["RTX_TEST_URL"]


def sdk(**more: Any) -> RealtimeXSDK:
    """The SDK as an app makes it: the credential is in the environment, where rowcall or a developer puts it."""
    return RealtimeXSDK(SDKConfig(url=URL, app_name="Demo", **more))


def equal(actual: Any, expected: Any) -> None:
    if actual != expected:
        raise AssertionError(f"{actual!r} is not {expected!r}")


async def fails(action: Awaitable[Any]) -> Exception:
    """The error that an action must end with."""
    try:
        await action
    except Exception as error:  # noqa: BLE001: whichever it is
        return error
    raise AssertionError("an error was expected")


async def until(what: str, ask: Callable[[], Awaitable[Any]]) -> Any:
    """Asks until an answer is right, for as long as a slow machine may need."""
    deadline = time.monotonic() + 30
    while True:
        found = await ask()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen")
        await asyncio.sleep(0.025)


def run(checks: list[Callable[[], Awaitable[None]]]) -> None:
    async def all_of_them() -> int:
        failed = 0
        for check in checks:
            try:
                await check()
            except Exception:  # noqa: BLE001: the rest shall run too
                failed += 1
                print(f"FAILED {check.__name__}", file=sys.stderr)
                traceback.print_exc()
        return failed

    failed = asyncio.run(all_of_them())
    print(f"{len(checks) - failed} checks passed")
    sys.exit(1 if failed else 0)
