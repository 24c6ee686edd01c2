"""How a client is told which limit has no room, and whose it is: its key's, its user's or its team's. Pure."""

from collections.abc import Mapping
from decimal import Decimal

from openai_proxy.dynamodb import Item
from openai_proxy.key_limits import Limits, is_user_id
from openai_proxy.limits import REQUESTS, TOKENS, Period, Windows, cost_in, leases, spent_in
from openai_proxy.shards.limits import PLACES

from proxy.errors import LimitError, LimitReached, Span
from proxy.limits.item import Share, Source, number_of

_WHAT: Mapping[Source, str] = {
    "key_rpm": "requests a minute",
    "key_tpm": "tokens a minute",
    "key_parallel": "requests at the same time",
}


def limit_error(
    limits: Limits,
    source: Source,
    seconds: int | None,
    own_headers: Mapping[str, str],
    reached: LimitReached | None = None,
) -> LimitError:
    """The answer to a request that found no room; its `source` says whose limit it is."""
    who = "This user" if limits.is_users_team or is_user_id(limits.id) else "This client key"
    who += "'s team" if limits.team else ""
    whose = f"team_{source.removeprefix('key_')}" if limits.team else source
    told = dict(own_headers)
    if source == "key_budget":
        message = f"The budget of {who[0].lower()}{who[1:]} is used up."
        told |= {"x-should-retry": "false"}
        return LimitError("insufficient_quota", message, whose, seconds, told).of(reached)
    if source == "key_budget_reserved":
        reserved = f"The rest of {who[0].lower()}{who[1:]}'s budget is reserved by requests that run."
        message = f"{reserved} Try again in {seconds} s."
        told |= {"x-should-retry": "true"}
        return LimitError("budget_reserved", message, whose, seconds, told).of(reached)
    message = f"{who} has reached its limit of {_WHAT[source]}. Try again in {seconds} s."
    return LimitError("rate_limit_exceeded", message, whose, seconds, told).of(reached)


def reached(limits: Limits, source: Source, item: Item, windows: Windows, share: Share) -> LimitReached:
    """The limit of that `source` in an item that has no room for a share: what it is, what is used, and what was asked.

    Requests and tokens of the minute, requests that run, or USD.
    """
    if source == "key_rpm":
        return _of(limits, "minute", limits.rpm, number_of(item, REQUESTS), 1)
    if source == "key_tpm":
        return _of(limits, "minute", limits.tpm, number_of(item, TOKENS), share.tokens)
    if source == "key_parallel":
        return _of(limits, "moment", limits.parallel, len(leases(item)) + number_of(item, PLACES), 1)
    counted = spent_in if source == "key_budget" else cost_in
    used: dict[Period, Decimal] = {period: number_of(item, counted(period)) for period in limits.budgets}
    full: list[Period] = [period for period, budget in limits.budgets.items() if used[period] >= budget]
    # Of several, the one that starts afresh last: until then the others do not help.
    span = max(full, key=lambda period: (windows.to_next(period) is None, windows.to_next(period) or 0))
    return _of(limits, span, limits.budgets[span], used[span], share.cost)


def _of(
    limits: Limits, span: Span, limit: int | Decimal | None, used: int | Decimal, asked: int | Decimal
) -> LimitReached:
    kind = "team" if limits.team else "user" if is_user_id(limits.id) else "key"
    amounts = (f"{max(Decimal(0), Decimal(amount)):f}" for amount in (limit or 0, used, asked))
    return LimitReached(kind, limits.team or limits.id, span, *amounts)
