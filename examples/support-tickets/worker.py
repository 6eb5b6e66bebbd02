#!/usr/bin/env python3
"""The ticket categorizer as a warm worker: started once, handles one ticket after the other."""

import rowcall_worker
from categorize import categorize
from tickets import update_ticket


def handle(task, log):
    ticket = task["raw_data"]
    if not isinstance(ticket, dict) or not ticket.get("id"):
        raise ValueError("the task holds no ticket: expected raw_data with an id")
    analysis = categorize(ticket)
    for reason in analysis.pop("reasons"):
        log(reason)
    update_ticket(ticket["id"], analysis)
    return analysis


rowcall_worker.run(handle)
