"""Writes what the agent found into the ticket: over REST where there is a SUPABASE_URL, with psql otherwise."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

TIMEOUT_SECONDS = 10

UPDATE = """
update public.support_tickets
set category = :'category', priority = :'priority', status = 'categorized'
where id = :'id';
"""


def post(url, body, method="POST", headers=None):
    """Sends JSON; gives the text of the answer, raises with what the server said."""
    request = urllib.request.Request(
        url,
        method=method,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **(headers or {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        detail = error.read(500).decode(errors="replace")
        raise RuntimeError(f"{error.code} {error.reason} {detail}".strip()) from None


def update_ticket(ticket_id, analysis):
    """Gives how it was done: 'rest', 'psql', or None when there was no way."""
    if os.environ.get("SUPABASE_URL"):
        update_over_rest(ticket_id, analysis)
        return "rest"
    if os.environ.get("DATABASE_URL") and shutil.which("psql"):
        update_with_psql(ticket_id, analysis)
        return "psql"
    return None


def update_over_rest(ticket_id, analysis):
    url = os.environ["SUPABASE_URL"].rstrip("/")
    key = os.environ.get("SUPABASE_KEY", "")
    changes = {
        "category": analysis["category"],
        "priority": analysis["priority"],
        "status": "categorized",
    }
    try:
        post(
            f"{url}/rest/v1/support_tickets?id=eq.{urllib.parse.quote(str(ticket_id), safe='')}",
            changes,
            method="PATCH",
            headers={"apikey": key, "Authorization": f"Bearer {key}", "Prefer": "return=minimal"},
        )
    except (RuntimeError, OSError) as error:
        raise RuntimeError(f"Failed to update ticket: {error}") from None


def update_with_psql(ticket_id, analysis):
    # Other users of the machine can read arguments, so the password goes by environment. The values are quoted by
    # psql itself (:'name'), never pasted into the SQL.
    url = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
    environment = dict(os.environ)
    if url.password:
        environment["PGPASSWORD"] = urllib.parse.unquote(url.password)
        user, host = url.netloc.rsplit("@", 1)
        url = url._replace(netloc=f"{user.split(':', 1)[0]}@{host}")
    values = {"id": ticket_id, "category": analysis["category"], "priority": analysis["priority"]}
    command = ["psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-d", url.geturl()]
    for name, value in values.items():
        command += ["-v", f"{name}={value}"]
    done = subprocess.run(
        command, input=UPDATE, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    if done.returncode != 0:
        raise RuntimeError(f"Failed to update ticket: {done.stderr.strip()}")
