"""What one request has taken of its key's limits, what it costs, and how it is given back. Pure.

Its one rule: whatever may have been taken is given back, but only under the lease of its own request. So giving back
may be repeated any number of times, by the sandbox and by whoever learns that the request has ended.
"""

from collections.abc import Mapping
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from openai_proxy.dynamodb import Item
from openai_proxy.key_limits import CURRENCY, Limits
from openai_proxy.limits import LIVE, MINUTE, TOKENS, Leased, Period, Windows, cost_in
from openai_proxy.usage import MOST_TOKENS, UNKNOWN, Usage

from proxy.aws.dynamodb_update import Update
from proxy.errors import ProxyError
from proxy.limits.item import Share, number_of, text_of
from proxy.request.body import RequestBody

if TYPE_CHECKING:
    from openai_proxy.events.types import LimitsData

_MIDDLING_ANSWER = 1000
"""Tokens."""
_MOST_COST = Decimal(1_000_000)
"""USD of one request: the sums in an item must not lose their last digits to it."""
_SMALLEST = Decimal("1e-12")
_NOTHING = Decimal(0)

LEASE_SECONDS = 30
"""How long a lease is that is renewed while its request runs: so long the place of a sandbox that dies stays taken."""

LeaseState = Literal["held", "returned", "doubtful"]
"""`held`: it was not given back, if it is there at all; `returned`: it was, and what the request has cost is reserved
in its place; `doubtful`: it was given back, or it is still there, because the answer was lost."""


class Prices(NamedTuple):
    """USD per token of a model, and how many tokens one of its answers usually has, if that is known."""

    input: Decimal
    output: Decimal
    answer: int | None = None

    def expected(self, body: RequestBody, input_tokens: int) -> Decimal:
        """The expected cost of a request: it has at most as many tokens as its client allows, and as such answers
        usually have.
        """
        usual = self.answer or (_MIDDLING_ANSWER if body.generates else 0) if body.asks_a_model else 0
        each = min(usual, body.asked.tokens or usual)
        return self._of(input_tokens, each * body.asked.answers)

    def spent(self, usage: Usage, expected: Decimal) -> Decimal:
        """The cost of a request; the expected cost if the real one is not known."""
        return expected if usage.source in UNKNOWN else self._of(usage.input_tokens, usage.output_tokens)

    def _of(self, inputs: int, outputs: int) -> Decimal:
        cost = min(inputs, MOST_TOKENS) * self.input + min(outputs, MOST_TOKENS) * self.output
        return min(cost, _MOST_COST).quantize(_SMALLEST, ROUND_UP).normalize()


CAREFUL = Prices(Decimal("0.00001"), Decimal("0.00004"))
"""Prices of an expensive model. They are used until the first answer of a model has been settled."""


def share_of(limits: Limits, body: RequestBody, prices: Prices, lease: str, lease_end: int) -> Share:
    """A request's share: never more than a whole limit."""
    if not limits.needs_estimate:
        return Share(lease, lease_end, 0, _NOTHING)
    inputs = body.input_tokens
    outputs = (body.asked.tokens or _MIDDLING_ANSWER) * body.asked.answers if body.generates else 0
    tokens = min(inputs + outputs, MOST_TOKENS if limits.tpm is None else limits.tpm)
    budgets = limits.budgets.values()
    cost = min([prices.expected(body, inputs), *budgets]) if budgets else _NOTHING
    return Share(lease, lease_end, tokens, cost)


class Reservation(NamedTuple):
    """What a request has taken. `share` is None if nothing has to be given back.

    `is_checked` is False if the table did not answer. The share is then still given back, because it may have been
    taken, but not to a shard. `refused` is why the request must not go on. After the release `cost` (USD) is what the
    request has cost by the prices that the proxy knows.
    """

    limits: Limits
    windows: Windows
    share: Share | None
    headers: Mapping[str, str]
    prices: Prices = CAREFUL
    is_checked: bool = True
    refused: ProxyError | None = None
    lease: LeaseState = "held"
    cost: Decimal = _NOTHING
    team: "Reservation | None" = None
    """What was taken of the team's limits together with the key's own."""
    shard: int = 0
    """The shard that it was taken of; 0 is the counter itself."""

    @property
    def parts(self) -> "tuple[Reservation, ...]":
        """What was taken from each counter; the key's own comes first."""
        return (self, self.team) if self.team else (self,)

    def of(self, team: str) -> "Reservation | None":
        """The part of the key's own limits ("") or of a team's, if it has one."""
        return next((each for each in self.parts if each.limits.team == team), None)

    def unchecked(self, refused: ProxyError | None, *, is_in_doubt: bool) -> "Reservation":
        """The same, if it is not known whether it was taken. `refused` says why the request must not go on, if it must
        not.
        """
        team = self.team and self.team.unchecked(refused, is_in_doubt=is_in_doubt)
        share = self.share if is_in_doubt and not self.shard else None
        return self._replace(share=share, is_checked=False, refused=refused, team=team)

    def to_event(self) -> "LimitsData":
        """The `data.limits` object of an event."""
        share, limits = self.share, self.limits
        event = nothing_taken(limits)
        event["status"] = "checked" if self.is_checked else "unchecked"
        if share is None and self.refused:
            return event
        event["has_budget"], event["taken_at"] = limits.has_budget, self.windows.now
        if share and limits.needs_estimate:
            event["reserved"] = {"cost": f"{self.cost:f}", "tokens": share.tokens}
        if self.shard and limits.has_budget:
            event["shard"] = self.shard
        if share and limits.are_given_back and self.lease != "returned" and not self.shard:
            event["lease"] = {"id": share.lease, "in_doubt": self.lease == "doubtful"}
        return event

    def as_found(self, share: Share, lease: Leased) -> "Reservation":
        """The same, corrected by its lease in the table."""
        if not lease.at:
            return self
        windows = lease.windows(self.limits.calendar)
        return self._replace(share=share._replace(cost=lease.cost), windows=windows)

    def ended(self, usage: Usage) -> "Reservation":
        """The same, when it is known what was used."""
        share = self.share
        if share is None or not self.limits.has_budget:
            return self
        return self._replace(cost=self.prices.spent(usage, share.cost))


def nothing_taken(limits: Limits) -> "LimitsData":
    """The `data.limits` object of an event of a request that was refused before, or by, its limits."""
    event: LimitsData = {
        "id": limits.id,
        "status": "checked",
        "reserved": None,
        "has_budget": False,
        "taken_at": None,
        "budget_day": None if limits.budget_day is None else f"{limits.budget_day:f}",
        "budget_month": None if limits.budget_month is None else f"{limits.budget_month:f}",
        "currency": CURRENCY if limits.has_budget else None,
    }
    if limits.budget_week is not None:
        event["budget_week"] = f"{limits.budget_week:f}"
    if limits.budget_total is not None:
        event["budget_total"] = f"{limits.budget_total:f}"
    if limits.has_budget and limits.reset_weekday:
        event["reset_weekday"] = limits.reset_weekday
    if limits.has_budget and limits.reset_day:
        event["reset_day"] = limits.reset_day
    return event


class Held(NamedTuple):
    """Which windows of a share its item still has. A window that is over gets nothing back."""

    minute: bool
    periods: tuple[Period, ...]

    @classmethod
    def of(cls, item: Item, windows: Windows) -> "Held":
        """What `item` has of `windows`."""
        return cls(
            number_of(item, MINUTE) == windows.minute,
            tuple(period for period in windows.periods if windows.is_in(period, text_of(item, period))),
        )


def renewing(limits: Limits, lease: str, end: int) -> dict[str, Any]:
    """The update with which the lease of a request that still runs ends at `end` (Unix seconds), if it is there."""
    update, own = Update(), {"lease": lease}
    update.needs(f"attribute_exists(#{LIVE}.#lease)", names=own)
    update.sets(f"#{LIVE}.#lease{'.#end' if limits.has_budget else ''} = :end", {"end": end}, own)
    return update.request()


def giving_back(taken: Reservation, share: Share, usage: Usage, held: Held) -> dict[str, Any]:
    """The update at the end of a request: it frees the request's place, and replaces estimated tokens and cost by the
    real ones.

    The cost stays reserved, in the bucket of its quarter of an hour, until it is settled.
    """
    limits, windows, update = taken.limits, taken.windows, Update()
    own = {"lease": share.lease}
    update.removes(f"#{LIVE}.#lease", own)
    if limits.tpm is not None and held.minute:
        used = share.tokens if usage.source in UNKNOWN else usage.input_tokens + usage.output_tokens
        update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
        update.adds({TOKENS: min(used, MOST_TOKENS) - share.tokens})
    if not limits.has_budget:
        update.needs(f"attribute_exists(#{LIVE}.#lease)", names=own)
        return update.request() | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    # If the take was sent several times for one request, only the one that was applied is given back.
    update.needs(f"#{LIVE}.#lease.#cost = :reserved", {"reserved": share.cost}, own)
    update.needs(f"#{LIVE}.#lease.#at = :at", {"at": windows.now}, own)
    for period in held.periods:
        update.needs(*windows.within(period))
        update.adds({cost_in(period): taken.cost - share.cost})
    if held.periods:
        update.adds({windows.bucket: taken.cost})
    return update.request() | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
