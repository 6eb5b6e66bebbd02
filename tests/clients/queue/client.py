"""Another worker on a queue that rowcall reads too: the `pgmq` of PyPI over PostgreSQL, or a worker of AIMQ over `pgmq_public`.

    python client.py pgmq|aimq QUEUE SEND TAKE

Sends SEND messages, handles TAKE of whatever is in the queue, and prints the ids of those as JSON.
"""

import json
import os
import sys
import time
from urllib.parse import unquote, urlparse

KIND, QUEUE, SEND, TAKE = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def with_pgmq():
    from pgmq import PGMQueue

    url = urlparse(os.environ["DATABASE_URL"])
    queue = PGMQueue(
        host=url.hostname,
        port=str(url.port),
        database=url.path[1:],
        username=unquote(url.username or ""),
        password=unquote(url.password or ""),
        init_extension=False,
    )
    for n in range(SEND):
        queue.send(QUEUE, {"from": KIND, "n": n})
    handled = []
    while len(handled) < TAKE:
        message = queue.read(QUEUE, vt=60)
        if message is None:
            time.sleep(0.05)
            continue
        assert queue.archive(QUEUE, message.msg_id)
        handled.append(message.msg_id)
    return handled


def with_aimq():
    from aimq.worker import Worker
    from langchain_core.runnables import RunnableConfig

    handled = []
    worker = Worker(idle_wait=0.05)

    @worker.task(queue=QUEUE, timeout=60)
    def handle(data: dict, config: RunnableConfig):
        handled.append(config["metadata"]["job"])
        # The whole round is done by its own loop; the last one stops it.
        if len(handled) >= TAKE:
            worker.is_running.clear()
        return data

    for n in range(SEND):
        worker.send(QUEUE, {"from": KIND, "n": n})
    worker.start(block=False)
    worker.thread.join(timeout=60)
    return handled


print(json.dumps({"pgmq": with_pgmq, "aimq": with_aimq}[KIND]()))
