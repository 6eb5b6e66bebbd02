"""Task events with a signature: taken when it is genuine, refused when it is not or is missing."""

import os

from check import equal, fails, run, sdk

SECRET = os.environ["TEST_SECRET"]


async def signed_events_are_taken() -> None:
    rtx = sdk(contract_callback_secret=SECRET, contract_sign_callbacks_by_default=True)
    task = (await rtx.webhook.trigger_agent({"a": "é"}))["task_uuid"]
    equal((await rtx.task.start(task, attempt_id=2))["status"], "processing")
    equal((await rtx.task.complete(task, {"z": 1.5, "a": {"text": "é😀", "list": [1, None, True]}}))["status"], "completed")


async def others_are_refused() -> None:
    plain = sdk()
    task = (await plain.webhook.trigger_agent({}))["task_uuid"]
    assert "signature" in str(await fails(plain.task.start(task)))
    wrong = sdk(contract_callback_secret="wrong", contract_sign_callbacks_by_default=True)
    assert "signature" in str(await fails(wrong.task.start(task)))
    equal((await plain.api.get_task(task))["status"], "pending")


run([signed_events_are_taken, others_are_refused])
