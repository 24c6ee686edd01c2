"""From a terminal event to a settlement: what the request reserved, and what it cost. Pure.

One rule: an unknown cost is not zero. It is settled as the amount that was reserved. A known cost is the ledger's, to
the last digit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from openai_proxy.events.incoming import MalformedEventError, batch_told, is_terminal
from openai_proxy.events.ulid import ulid_time
from openai_proxy.key_limits import CURRENCY, amount_of, is_user_id
from openai_proxy.limits import LAST_RESET_DAY, LONGEST_MODEL, WEEKDAYS, Calendar, Period, Windows
from openai_proxy.pricing.price_book import Cost, PriceBook, Unpriced
from openai_proxy.pricing.rates import EXACT, exact_sum
from openai_proxy.usage import Usage

if TYPE_CHECKING:
    from openai_proxy.events.types import AnyEvent, ClientData, LimitsData, TerminalEvent

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_TOKENS = 10**9
_END_OF_9999 = 253_402_300_799
_MILLIONTH = Decimal(1).scaleb(-6)
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class PriceHint:
    """USD per token of a model, by the name that clients ask for: the next reservation for that model is measured by
    it.
    """

    server: str
    model: str
    input: Decimal
    output: Decimal
    answer: int | None = None
    """Tokens of one answer: of the one that was settled, or what such answers usually have; None: not known."""


@dataclass(frozen=True, slots=True)
class LeftLease:
    """A lease that a sandbox may have left in the counter of a key, although its request is over.

    `in_doubt`: it may have been given back. If it is not there any more, the cost of its request is reserved instead.
    """

    limits_id: str
    id: str
    in_doubt: bool


@dataclass(frozen=True, slots=True)
class Settlement:
    """One inference of a key with a budget. Money is in USD.

    `reserved` is the amount that is reserved in the bucket, unless the request has left its lease; None when nothing is
    reserved: the cost counts all the same. `client` is as in the event, `budgets` are those that the key had.
    """

    event_id: str
    limits_id: str
    client_id: str
    client: "ClientData"
    taken_at: int
    windows: Windows
    budgets: Mapping[Period, Decimal]
    reserved: Decimal | None
    actual: Decimal
    is_priced: bool
    hint: PriceHint | None
    lease: LeftLease | None = None
    team: str = ""
    """Whose counter it is; "" is for that of the key, or the user."""
    end_user: str = ""
    """Who has signed in, where it is the counter of a user; "" is for that of a key, or a team."""
    lane: int = 0
    """The lane of a counter in shards that it is settled in, which the table chooses; 0: in the counter itself."""
    batch: str = ""
    """Which batch it is that was told; "" where the request itself had something done."""

    @property
    def marker(self) -> str:
        """The marker that says that this was settled: an inference is settled once in each of its counters.

        A batch is settled once, however many requests report its usage: for the first key that has a budget, and for
        the first team.
        """
        return f"{self.batch or self.event_id}#team" if self.team else self.batch or self.event_id


def settlements_of(event: "AnyEvent", prices: PriceBook) -> list[Settlement]:
    """The settlements of a terminal event: for its key, and for its team. Raises MalformedEventError."""
    own = settlement_of(event, prices)
    team = settlement_of(event, prices, of_team=True)
    if own and team:
        team = replace(team, hint=None)  # the price hint of an answer is learned once, from its first settlement
    return [each for each in (own, team) if each]


def settlement_of(event: "AnyEvent", prices: PriceBook, *, of_team: bool = False) -> Settlement | None:
    """The settlement of a terminal event; None when it counts for no budget. Raises MalformedEventError."""
    if not is_terminal(event):
        return None
    try:
        limits, team = _limits_of(event, of_team=of_team)
        return _settlement(event, limits, prices, team) if limits and limits.get("has_budget") else None
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error


def _limits_of(event: "TerminalEvent", *, of_team: bool) -> "tuple[LimitsData | None, str]":
    """The limits of the key, or those of its team with the team's name. Raises as reading any event does."""
    if not of_team:
        return event.data.get("limits"), ""
    team = event.data.get("team")
    return (team["limits"], _name(team["name"])) if team else (None, "")


def left_lease_of(event: "AnyEvent", *, of_team: bool = False) -> LeftLease | None:
    """The lease that the request of a terminal event may have left. Raises MalformedEventError."""
    if not is_terminal(event):
        return None
    try:
        return _left_lease(_limits_of(event, of_team=of_team)[0])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error


def _left_lease(limits: "LimitsData | None") -> LeftLease | None:
    lease = limits.get("lease") if limits else None
    return LeftLease(_name(limits["id"]), _name(lease["id"]), lease["in_doubt"] is True) if limits and lease else None


def _settlement(event: "TerminalEvent", limits: "LimitsData", prices: PriceBook, team: str) -> Settlement | None:
    taken_at = _count(limits["taken_at"], _END_OF_9999)
    reserved = None if limits["reserved"] is None else amount_of(_text(limits["reserved"]["cost"]))
    batch = batch_told(event)
    cost, hint = _priced(event, prices) if not batch else (_cost_of_batch(event, prices), None)
    if batch and not isinstance(cost, Cost):
        return None  # a later event may say what it cost
    if limits["currency"] != CURRENCY:
        raise ValueError(f"{limits['currency']!r} is not the currency of the price book")
    budgets: dict[Period, str | None] = {
        "day": limits["budget_day"],
        "week": limits.get("budget_week"),
        "month": limits["budget_month"],
        "total": limits.get("budget_total"),
    }
    return Settlement(
        event_id=event.id,
        limits_id=_name(limits["id"]),
        client_id=_name(event.client_id),
        client=_client(event.data["client"]),
        taken_at=taken_at,
        windows=Windows.of(taken_at, _calendar(limits)),
        budgets={period: _budget(amount) for period, amount in budgets.items() if amount is not None},
        reserved=None if batch else reserved,
        actual=cost.total if isinstance(cost, Cost) else reserved or _NOTHING,
        is_priced=isinstance(cost, Cost),
        hint=hint,
        lease=None if batch else _left_lease(limits),
        team=team,
        end_user=_text(event.data.get("end_user") or "") if is_user_id(limits["id"]) else "",
        batch=batch,
        lane=1 if limits.get("shard") else 0,
    )


def _cost_of_batch(event: "TerminalEvent", prices: PriceBook) -> Cost | Unpriced:
    """What all models of a batch cost together, as far as that is known."""
    data, at = event.data, ulid_time(event.id)
    server, asked = data["server"]["name"], data["request"]["model"]
    parts = [(data["response"]["model"], data["usage"])]
    parts += [(each["model"], each["usage"]) for each in (data.get("fetched") or {"others": ()})["others"]]
    costs = [prices.price_answer(Usage.from_event(used), server, model or asked, asked, at)[0] for model, used in parts]
    known = {str(number): cost.total for number, cost in enumerate(costs) if isinstance(cost, Cost)}
    return Cost("reported", stated=exact_sum(known)) if known else costs[0]


def _calendar(limits: "LimitsData") -> Calendar:
    """In which periods the cost counts. Raises ValueError for a day that there is not in each of them."""
    day = _count(limits.get("reset_day", 1), LAST_RESET_DAY) or 1
    week = WEEKDAYS.index(limits.get("reset_weekday", WEEKDAYS[0])) if limits.get("budget_week") is not None else None
    return Calendar(week, day, limits.get("budget_total") is not None)


def _priced(event: "TerminalEvent", prices: PriceBook) -> tuple[Cost | Unpriced, PriceHint | None]:
    """As the ledger prices it: at the moment of its id, by the model that answered, else by the one asked for."""
    data, at = event.data, ulid_time(event.id)
    if data["cache"]["status"] == "HIT":
        return Cost("free"), None
    usage, server, asked = Usage.from_event(data["usage"]), data["server"]["name"], data["request"]["model"]
    cost, model = prices.price_answer(usage, server, data["response"]["model"] or asked, asked, at)
    if cost.pricing == "none" or not (server and asked and asked.isprintable()):
        return cost, None
    quote = prices.find(server, model or "", at)
    if quote is None:
        return cost, None
    rates = quote.price.rates
    if not (quote.price.is_free or rates.are_of_tokens):
        return cost, None
    per_token = [EXACT.multiply(rates.of(name) or _NOTHING, _MILLIONTH) for name in ("input", "output")]
    answers = max(1, len(data["response"]["finish_reasons"]))
    answer = min(-(-usage.output_tokens // answers), _MOST_TOKENS) or None
    return cost, PriceHint(server, asked[:LONGEST_MODEL], *per_token, answer=answer)


def _client(client: Any) -> "ClientData":
    owner = client["owner"]
    return {
        "key_id": _text(client["key_id"]),
        "name": _text(client["name"]),
        "owner": None if owner is None else _text(owner),
        "tags": {_text(name): _text(value) for name, value in client["tags"].items()},
    }


def _budget(text: Any) -> Decimal:
    amount = amount_of(_text(text))
    if not amount:
        raise ValueError("a budget of nothing")
    return amount


def _count(value: Any, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{value!r} is not a count")
    return value


def _name(value: Any) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no id")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value
