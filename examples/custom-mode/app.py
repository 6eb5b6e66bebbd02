#!/usr/bin/env python3
"""A local app in custom mode: its own orders table, its own locks. Standard library only.

rowcall asks it for the lock of an order before an agent runs, and reports to it how the run ended:

    POST /api/task-lock      {"task_id", "table_name", "machine_id", "user_email"}
    POST /api/task-webhook   {"task_id", "action": "complete" | "fail", "machine_id", "table_name", "data", "timestamp"}

The database decides who has a lock (see schema.sql); this program only carries the question there and the answer back.
"""

import json
import os
import signal
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SUPABASE_URL = os.environ.get("SUPABASE_URL", "http://127.0.0.1:54321").rstrip("/")
SUPABASE_KEY = os.environ.get("SUPABASE_KEY", "")  # the service (secret) key: only this app has it
APP_NAME = os.environ.get("RTX_APP_NAME", "orders")
PORT = int(os.environ.get("RTX_PORT") or os.environ.get("PORT") or 8080)
RECOVER_EVERY_SECONDS = float(os.environ.get("RECOVER_EVERY_SECONDS", "60"))

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_ANSWER_BYTES = 1024 * 1024
TIMEOUT_SECONDS = 8


class Unavailable(Exception):
    """The project did not answer, or not with what was asked for."""


def project(path, body):
    """Posts JSON to the project and returns its JSON answer."""
    headers = {"apikey": SUPABASE_KEY, "content-type": "application/json"}
    if SUPABASE_KEY.startswith("eyJ"):  # newer keys are no tokens
        headers["authorization"] = f"Bearer {SUPABASE_KEY}"
    request = urllib.request.Request(SUPABASE_URL + path, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            text = answer.read(MAX_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        raise Unavailable(f"{error.code} {error.read(300).decode(errors='replace')}") from error
    except OSError as error:
        raise Unavailable(str(error)) from error
    return json.loads(text) if text else None


def lock(body):
    """Asks the database for the lock of an order."""
    if body.get("table_name") not in ("orders", "public.orders"):
        return 404, {"success": False, "reason": "not_found"}
    answer = project("/rest/v1/rpc/lock_order", {"order_id": text(body, "task_id"), "machine": text(body, "machine_id")})
    return (200 if answer["success"] else 409), answer


def finish(body):
    """Writes how an order ended, if the lock is still with the machine that says so."""
    data = body.get("data") if isinstance(body.get("data"), dict) else {}
    error = None
    if body.get("action") in ("fail", "failed"):
        said = data.get("error")
        error = said.get("message") if isinstance(said, dict) else said
        error = str(error or "the agent failed without saying why")
    elif body.get("action") not in ("complete", "completed"):
        raise ValueError("action must be complete or fail")
    order, machine = text(body, "task_id"), text(body, "machine_id")
    arguments = {"order_id": order, "machine": machine, "result": data.get("result"), "error": error}
    if not project("/rest/v1/rpc/finish_order", arguments):
        return 409, {"success": False, "reason": "not_locked"}
    if error is not None:
        tell_others([{"task_id": order, "table_name": "orders", "failed_by": machine}])
    return 200, {"success": True}


def text(body, key):
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be a text")
    return value


def tell_others(payloads):
    """Tells other machines that orders are up for another try. They would find them later anyway."""
    messages = [
        {"topic": f"task-retry-{APP_NAME}", "event": "task-available", "payload": payload, "private": False}
        for payload in payloads
    ]
    try:
        project("/realtime/v1/api/broadcast", {"messages": messages})
    except Unavailable as error:
        print(f"nobody was told of a free order: {error}", file=sys.stderr, flush=True)


def recover_forever(stop):
    """Takes back orders whose machine went away."""
    while not stop.wait(RECOVER_EVERY_SECONDS):
        try:
            recovered = project("/rest/v1/rpc/recover_orders", {})
        except Unavailable as error:
            print(f"stale orders were not looked for: {error}", file=sys.stderr, flush=True)
            continue
        if recovered:
            tell_others([
                {"task_id": one["order_id"], "table_name": "orders", "failed_by": one["failed_by"],
                 "recovery_reason": "stale_lock"}
                for one in recovered
            ])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    routes = {"/api/task-lock": lock, "/api/task-webhook": finish}

    def do_GET(self):
        self.answer(200, {"status": "healthy"}) if self.path == "/health" else self.answer(404, {"error": "not found"})

    def do_POST(self):
        try:
            length = int(self.headers.get("content-length") or 0)
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY_BYTES:
            self.close_connection = True
            return self.answer(413, {"error": "the body is too large"})
        route = self.routes.get(self.path)
        body = self.rfile.read(length)
        if route is None:
            return self.answer(404, {"error": "not found"})
        try:
            body = json.loads(body)
            if not isinstance(body, dict):
                raise ValueError("the body must be a JSON object")
            self.answer(*route(body))
        except ValueError as error:
            self.answer(400, {"error": str(error)})
        except Unavailable as error:
            self.answer(503, {"error": f"the database did not answer: {error}"})

    def answer(self, status, body):
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, form, *values):
        print(f"{self.address_string()} {form % values}", file=sys.stderr, flush=True)


def main():
    if not SUPABASE_KEY:
        sys.exit("SUPABASE_KEY is not set: the app needs the service key of the project")
    stop = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    server.daemon_threads = True
    threading.Thread(target=recover_forever, args=(stop,), daemon=True).start()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"orders app on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
    stop.set()


if __name__ == "__main__":
    main()
