"""What the scripts share: SQL through the test that runs them, and waiting with a limit."""

import asyncio
import sys

PATIENCE = 15


async def sql(statement: str) -> None:
    """Has the test run SQL: one line out, one line back."""
    print("sql", statement.replace("\n", " "), flush=True)
    answer = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    if answer.strip() != "ok":
        raise RuntimeError(answer.strip())


class Inbox:
    """Collects what comes, and hands it out one by one."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.queue: asyncio.Queue = asyncio.Queue()

    def put(self, value) -> None:
        self.queue.put_nowait(value)

    async def take(self):
        try:
            return await asyncio.wait_for(self.queue.get(), PATIENCE)
        except asyncio.TimeoutError:
            raise AssertionError(f"no {self.what} within {PATIENCE} s") from None


async def subscribed(channel) -> None:
    """Subscribes and waits for the state SUBSCRIBED."""
    states = Inbox(f"SUBSCRIBED of {channel.topic}")
    await channel.subscribe(lambda state, error: states.put((state, error)))
    state, error = await states.take()
    assert state == "SUBSCRIBED", (state, error)
