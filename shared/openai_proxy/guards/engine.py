"""Requests ─▶ what guards do about them. The consumer and the replay run this, each with evidence of its own.

One rule: a stretch of the clock has an action if its requests give a reason, and no other stretch matters. So copies
change nothing. Nor does the order change anything for rules that count requests, nor for those of spending as long as
no request comes an hour late.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_HALF_UP, Decimal

from openai_proxy.guards.action import Action, action_of, minute
from openai_proxy.guards.evidence import Evidence, bucket_of, first_completion
from openai_proxy.guards.rules import HOUR, WEEK, Counting, Guard, Spending, fits, length_text
from openai_proxy.guards.seen import Seen

SHORTEST_HISTORY = 24
"""Hours since a key has first spent something: before, nobody knows what is usual."""
_MOST_KNOWN = 10_000
_CENT, _TENTH = Decimal("0.01"), Decimal("0.1")


class Engine:
    """Judges requests by the guards of the file."""

    def __init__(self, guards: Sequence[Guard], evidence: Evidence) -> None:
        self._guards = guards
        self._evidence = evidence
        self._known: set[str] = set()

    def judge(self, requests: Iterable[Seen]) -> list[Action]:
        """The actions that these requests give reason for. Actions that were returned before may be returned again.

        Raises whatever the evidence raises; then the same requests may be given again.
        """
        seen = list({each.id: each for each in requests}.values())
        found: dict[str, Action] = {}
        for guard in self._guards:
            of_guard = [each for each in seen if _is_watched(guard, each)]
            actions = self._counted(guard, of_guard) if isinstance(guard.rule, Counting) else self._spent(guard, seen)
            for action in actions:
                first = found.get(action.id)
                found[action.id] = action if first is None or action.request.id < first.request.id else first
        return sorted(found.values(), key=lambda action: (action.request.id, action.id))

    def settled(self, action: Action) -> None:
        """Say that an action is done: until its stretch is over, nothing more is remembered for its sake."""
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(action.id)

    def _counted(self, guard: Guard, requests: Sequence[Seen]) -> Iterator[Action]:
        rule = guard.rule
        assert isinstance(rule, Counting)
        buckets: dict[tuple[str, int], list[Seen]] = {}
        for each in requests:
            group = f"{guard.name}#{each.key_id}#{each.digest if rule.kind == 'repeat' else ''}"
            buckets.setdefault((group, bucket_of(each.id, rule.within)), []).append(each)
        for (group, bucket), each in sorted(buckets.items()):
            if self._is_over(guard, each[0], bucket):
                continue
            by_id = {one.id: one for one in each}
            ids = self._evidence.times(group, bucket, list(by_id), rule.times)
            for near in (bucket, bucket + 1):
                start = near * rule.within * 1000
                complete = first_completion(ids, rule.times, rule.within, start, start + rule.within * 1000)
                if complete:
                    request = by_id.get(complete) or each[0]._replace(id=complete)
                    yield action_of(guard, request, _counted_reason(rule, request))

    def _is_over(self, guard: Guard, request: Seen, bucket: int) -> bool:
        """Whether a bucket can give reason for no further action, neither in its stretch nor in a later one."""
        rule = guard.rule
        assert isinstance(rule, Counting)
        is_last = (bucket + 1) * rule.within % guard.doing.lasts == 0
        return not is_last and action_of(guard, request, "").id in self._known

    def _spent(self, guard: Guard, requests: Sequence[Seen]) -> Iterator[Action]:
        rule = guard.rule
        assert isinstance(rule, Spending)
        hours: dict[tuple[str, int], list[Seen]] = {}
        for each in requests:
            if each.cost > 0 and fits(each.client_id, guard.clients):
                hours.setdefault((each.key_id, int(each.at) // HOUR), []).append(each)
        for (key_id, hour), each in sorted(hours.items()):
            sum_of_hour = self._evidence.spend(key_id, hour, {one.id: one.cost for one in each})
            if sum_of_hour < rule.at_least:
                continue
            usual = self._usual(key_id, hour)
            if usual is not None and sum_of_hour >= rule.factor * usual:
                last = max(each, key=lambda one: one.id)
                yield action_of(guard, last, _spent_reason(sum_of_hour, usual, hour))

    def _usual(self, key_id: str, hour: int) -> Decimal | None:
        """USD that a key spends in an hour, by the week before; None of one whose history is too short.

        The hour just before is left out, because some of its requests may still arrive.
        """
        first, last = hour - 1 - WEEK, hour - 2
        spent = self._evidence.spent(key_id, first, last)
        begun = min(spent, default=None)
        if begun is None or begun > hour - SHORTEST_HISTORY:
            return None
        return sum(spent.values(), Decimal(0)) / (last - begun + 1)


def _is_watched(guard: Guard, request: Seen) -> bool:
    rule = guard.rule
    if isinstance(rule, Spending) or not fits(request.client_id, guard.clients):
        return False
    if not fits(request.model, guard.models):
        return False
    if rule.kind == "repeat":
        return bool(request.digest)
    if rule.kind == "refused":
        return not rule.statuses.isdisjoint(request.statuses)
    return bool(request.model) and rule.hours is not None and not rule.hours.has(request.at)


def _counted_reason(rule: Counting, request: Seen) -> str:
    within, model = length_text(rule.within), f" for {request.model}" if request.model else ""
    if rule.kind == "repeat":
        return f"the same request{model} {rule.times} times within {within}"
    times = f"{rule.times} requests" if rule.times > 1 else "a request"
    if rule.kind == "refused":
        statuses = " or ".join(map(str, sorted(rule.statuses)))
        return f"{times} answered with {statuses} within {within}"
    hours = rule.hours.text if rule.hours else ""
    return f"{times}{model} within {within}, outside the usual hours ({hours})"


def _spent_reason(spent: Decimal, usual: Decimal, hour: int) -> str:
    times = (spent / usual).quantize(_TENTH, ROUND_HALF_UP)
    amount = spent.quantize(_CENT, ROUND_HALF_UP)
    return f"{amount} USD in the hour from {minute(hour * HOUR)}, {times:,} times its usual {_money(usual)} USD an hour"


def _money(amount: Decimal) -> str:
    return f"{amount.quantize(_CENT, ROUND_HALF_UP)}" if amount >= _CENT else f"{amount:.2g}"
