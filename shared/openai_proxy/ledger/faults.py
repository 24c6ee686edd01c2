"""Whose fault a failure is: the client's, a limit's, a server's or the proxy's. Pure."""

from collections.abc import Mapping
from typing import Any

FAULTS = ("client", "limit", "server", "proxy")
NEEDED = ("outcome", "error_source", "error_type", "status_code", "upstream_status")
"""The attributes of an entry that say it."""

OF_LIMITS = ("rate_limit_exceeded", "insufficient_quota", "budget_reserved")


def fault_of(entry: Mapping[str, Any]) -> str | None:
    """One of `FAULTS` of an entry that failed; None of one that did not, and where nobody said.

    A limit is one that refused an answer which had begun: what is refused before is throttled, and in no ledger.
    """
    if entry["outcome"] != "failed":
        return None
    if 429 in (entry.get("status_code"), entry.get("upstream_status")) or entry.get("error_type") in OF_LIMITS:
        return "limit"
    source = "server" if entry.get("error_source") == "upstream" else entry.get("error_source")
    return source if source in FAULTS else None


def failure_share(entry: Mapping[str, Any]) -> dict[str, int]:
    """What an entry adds to the failures of its rollups."""
    fault = fault_of(entry)
    return {"failed": int(entry["outcome"] == "failed")} | ({f"failed_{fault}": 1} if fault else {})
