#!/usr/bin/env python3
"""A queue worker in Python: rowcall reads the queue, this program handles the messages. Needs nothing but Python 3.

rowcall starts it once and keeps it warm: it sends one message per line on standard input, as JSON, and reads the answers from
standard output (docs/worker-protocol.md). Leases, retries, dead letters and wake-ups are rowcall's business.

    rowcall worker --queue incoming-messages -- python3 worker.py
    rowcall queue send incoming-messages '{"body": "@billing-bot what do I owe?", "thread_id": "t1"}'

Try it without rowcall:

    printf '%s\\n' '{"type":"hello","protocol":1,"concurrency":2}' \\
      '{"type":"task","id":"1","task":{"raw_data":{"body":"hello @billing-bot"},"key":{"queue":"q","msg_id":1},"attempt":1}}' \\
      '{"type":"shutdown"}' | python3 worker.py
"""

import json
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

PROTOCOL = 1

# An @ that does not follow a letter or digit, then a name: AIMQ's rule.
MENTION = re.compile(r"(?<![A-Za-z0-9])@([\w-]+)")
BOTS = ("-assistant", "_assistant", "-bot", "_bot")


def handle(task, log):
    """Handles one message. What it returns is the result; an exception fails the attempt.

    `task["raw_data"]` is the message, `task["key"]` says which one it is. It may come a second time, after a crash: give
    `task["idempotency_key"]` to whatever must not be done twice.
    """
    message, key = task["raw_data"], task["key"]
    if not isinstance(message, dict) or not isinstance(message.get("body"), str):
        raise ValueError("expected a message with a text in `body`")
    log(f"message {key['msg_id']} of {key['queue']}, attempt {task['attempt']}")
    mentions = MENTION.findall(message["body"])
    assistant = next((name for name in mentions if name.endswith(BOTS)), "default-assistant")
    return {"queue": assistant, "thread_id": message.get("thread_id", f"job-{key['msg_id']}")}


class Worker:
    """The protocol: lines of JSON, answered in any order."""

    def __init__(self, handle):
        self.handle = handle
        self.lock = threading.Lock()
        self.canceled = set()

    def say(self, **message):
        with self.lock:
            print(json.dumps(message, ensure_ascii=False), flush=True)

    def work(self, id, task):
        try:
            if id in self.canceled:
                raise RuntimeError("canceled before its turn came")
            result = self.handle(task, lambda text: self.say(type="log", id=id, message=text))
            self.say(type="result", id=id, result=result)
        except Exception as error:
            self.say(type="error", id=id, error={"message": str(error) or type(error).__name__})
        finally:
            self.canceled.discard(id)

    def run(self):
        sys.stdin.reconfigure(encoding="utf-8")
        sys.stdout.reconfigure(encoding="utf-8")
        hello = json.loads(sys.stdin.readline())
        # Leaving the block waits for the messages that are still in work.
        with ThreadPoolExecutor(hello["concurrency"]) as pool:
            self.say(type="ready", protocol=PROTOCOL)
            for line in sys.stdin:
                message = json.loads(line)
                if message["type"] == "task":
                    pool.submit(self.work, message["id"], message["task"])
                elif message["type"] == "cancel":
                    self.canceled.add(message["id"])
                elif message["type"] == "shutdown":
                    break


if __name__ == "__main__":
    Worker(handle).run()
