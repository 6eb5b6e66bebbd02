"""A list of named checks; all run, and the process fails if one did."""

import os
import sys
import traceback
from typing import Any, Callable

from supabase import Client, ClientOptions, create_client

URL = os.environ["SUPABASE_URL"]


def client(key: str = os.environ["ANON_KEY"], **options: Any) -> Client:
    return create_client(URL, key, ClientOptions(auto_refresh_token=False, persist_session=False, **options))


def equal(actual: Any, expected: Any) -> None:
    if actual != expected:
        raise AssertionError(f"{actual!r} is not {expected!r}")


def fails(action: Callable[[], Any], code: str) -> Any:
    """The error that the action must end with."""
    try:
        action()
    except Exception as error:  # noqa: BLE001: the code decides
        if str(getattr(error, "code", None)) != code:
            raise
        return error
    raise AssertionError(f"error {code} was expected")


def run(checks: list[Callable[[], None]]) -> None:
    failed = 0
    for check in checks:
        try:
            check()
        except Exception:  # noqa: BLE001: the rest shall run too
            failed += 1
            print(f"FAILED {check.__name__}", file=sys.stderr)
            traceback.print_exc()
    print(f"{len(checks) - failed} of {len(checks)} checks passed")
    sys.exit(1 if failed else 0)
