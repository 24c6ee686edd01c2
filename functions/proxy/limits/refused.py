"""How a client is told which limit has no room, and whose it is: its key's, its user's or its team's. Pure."""

from collections.abc import Mapping

from openai_proxy.key_limits import Limits, is_user_id

from proxy.errors import LimitError
from proxy.limits.item import Source

_WHAT: Mapping[Source, str] = {
    "key_rpm": "requests a minute",
    "key_tpm": "tokens a minute",
    "key_parallel": "requests at the same time",
}


def limit_error(limits: Limits, source: Source, seconds: int | None, own_headers: Mapping[str, str]) -> LimitError:
    """The answer to a request that found no room; its `source` says whose limit it is."""
    who = "This client key's team" if limits.team else "This user" if is_user_id(limits.id) else "This client key"
    whose = f"team_{source.removeprefix('key_')}" if limits.team else source
    told = dict(own_headers)
    if source == "key_budget":
        message = f"The budget of {who[0].lower()}{who[1:]} is used up."
        return LimitError(429, "insufficient_quota", message, whose, seconds, told | {"x-should-retry": "false"})
    if source == "key_budget_reserved":
        reserved = f"The rest of {who[0].lower()}{who[1:]}'s budget is reserved by requests that run."
        message = f"{reserved} Try again in {seconds} s."
        return LimitError(429, "budget_reserved", message, whose, seconds, told | {"x-should-retry": "true"})
    message = f"{who} has reached its limit of {_WHAT[source]}. Try again in {seconds} s."
    return LimitError(429, "rate_limit_exceeded", message, whose, seconds, told)
