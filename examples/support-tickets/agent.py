#!/usr/bin/env python3
"""Support ticket categorizer: started by rowcall for each new ticket. Needs nothing but Python 3.

Reads the ticket from ACTIVITY_DATA (or from the arguments), decides category and priority, writes them into the ticket,
and reports by webhook. The last line of its output says the same, for hosts that read that instead.
"""

import json
import os
import sys
import time
import traceback

from categorize import categorize
from tickets import post, update_ticket

REPORT_ATTEMPTS = 3
REPORT_PAUSE_SECONDS = 0.3


def read_activity():
    """The task's data: by file when it is large, else by environment or argument."""
    if os.environ.get("ACTIVITY_DATA_FILE"):
        with open(os.environ["ACTIVITY_DATA_FILE"], encoding="utf-8") as file:
            return json.load(file)
    text = os.environ.get("ACTIVITY_DATA") or (sys.argv[2] if len(sys.argv) > 2 else "{}")
    return json.loads(text)


def report(task_uuid, action, data):
    """Tells rowcall how it ended. Repeating a report is harmless, so a lost answer is no problem."""
    server = os.environ.get("SERVER_URL", "http://localhost:3001").rstrip("/")
    body = {
        "action": action,
        "table_name": "support_tickets",
        "machine_id": os.environ.get("MACHINE_ID", "unknown"),
        "data": data,
    }
    for attempt in range(1, REPORT_ATTEMPTS + 1):
        try:
            answer = post(f"{server}/api/external-tasks/{task_uuid}/webhook", body)
            if json.loads(answer or "{}").get("success") is False:
                raise RuntimeError(f"refused: {answer}")
            return
        except (RuntimeError, OSError, ValueError) as error:
            print(f"Webhook failed: {error}", file=sys.stderr)
            if attempt < REPORT_ATTEMPTS:
                time.sleep(REPORT_PAUSE_SECONDS)


def main():
    task_uuid = os.environ.get("TASK_UUID") or (sys.argv[1] if len(sys.argv) > 1 else None)
    try:
        ticket = read_activity().get("raw_data")
        if not isinstance(ticket, dict) or not ticket.get("id"):
            raise ValueError("the task holds no ticket: expected raw_data with an id")
        print("Processing ticket:", ticket["id"])

        analysis = categorize(ticket)
        for reason in analysis.pop("reasons"):
            print(" ", reason)

        way = update_ticket(ticket["id"], analysis)
        print(f"Ticket updated ({way})" if way else "No SUPABASE_URL and no psql: the result is only reported")

        if task_uuid:
            report(task_uuid, "completed", {"result": analysis, "ticket_id": ticket["id"]})
        print(json.dumps({"result": analysis}, ensure_ascii=False))
    except Exception as error:
        message = str(error) or type(error).__name__
        print("Error processing ticket:", message, file=sys.stderr)
        if task_uuid:
            report(task_uuid, "failed", {"error": {"message": message, "stack": traceback.format_exc()}})
        print(json.dumps({"error": {"message": message}}))
        sys.exit(1)


if __name__ == "__main__":
    # Whatever the locale says, tickets hold every character.
    sys.stdout.reconfigure(encoding="utf-8")
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    main()
