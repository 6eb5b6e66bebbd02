"""A warm worker for rowcall in a few lines: run(handle, concurrency). The protocol: docs/worker-protocol.md.

`handle(task, log)` gets what a process gets as ACTIVITY_DATA and returns the result; an exception fails the task.
"""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

PROTOCOL = 1


def run(handle):
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    lock, canceled = threading.Lock(), set()

    def say(**message):
        with lock:
            print(json.dumps(message, ensure_ascii=False), flush=True)

    def work(id, task):
        try:
            # One that was canceled before its turn came is answered and not done.
            if id in canceled:
                raise RuntimeError("canceled")
            say(type="result", id=id, result=handle(task, lambda text: say(type="log", id=id, message=text)))
        except Exception as error:
            say(type="error", id=id, error={"message": str(error) or type(error).__name__})
        finally:
            canceled.discard(id)

    hello = json.loads(sys.stdin.readline())
    # Leaving the block waits for the tasks that still run.
    with ThreadPoolExecutor(hello["concurrency"]) as pool:
        say(type="ready", protocol=PROTOCOL)
        for line in sys.stdin:
            message = json.loads(line)
            if message["type"] == "task":
                pool.submit(work, message["id"], message["task"])
            elif message["type"] == "cancel":
                canceled.add(message["id"])
            elif message["type"] == "shutdown":
                break
