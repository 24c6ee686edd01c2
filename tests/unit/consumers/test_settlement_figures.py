"""Where each figure of an event stands in its settlement, what each may be, and where buckets and hints end."""

import copy
import hashlib
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.limits import Calendar, Leased, Windows, bucket_windows, is_expired, lease_of
from openai_proxy.pricing.price_book import parse_price_book
from settle_limits.consumer import SettleLimits, latest_of_each_key, latest_of_each_period
from settle_limits.price_hints import PriceHints
from settle_limits.settlement import LeftLease, PriceHint, Settlement, left_lease_of, settlement_of, settlements_of
from settle_limits.thresholds import Crossing, crossings, event_of

from tests.fakes import read_event
from tests.tables import Log

SAMPLE = json.loads(
    (Path(__file__).parents[3] / "events" / "samples" / "InferenceCompleted.chat-stream.json").read_text("utf-8")
)
PRICES = parse_price_book("servers: {main: {models: {asked: {input: 1, output: 2}, nothing: free}}}")
NOON = 1_795_435_200
"""2026-11-23 12:00:00 UTC, a Monday."""
LIMITS = {
    "id": "line-1",
    "status": "checked",
    "has_budget": True,
    "reserved": {"cost": "0.5", "tokens": 9},
    "taken_at": NOON,
    "budget_day": "5",
    "budget_week": "6",
    "budget_month": "7",
    "budget_total": "8",
    "reset_weekday": "wednesday",
    "reset_day": 28,
    "currency": "USD",
}
CLIENT = {"key_id": "0a", "name": "Chat", "owner": "Ada", "tags": {"env": "prod"}}


def event_with(values: dict[str, Any]) -> Any:
    """An event of a key with every limit, and of a team with others, but for `values` by their places."""
    return read_event(envelope_with(values))


def envelope_with(values: dict[str, Any]) -> dict[str, Any]:
    envelope = copy.deepcopy(SAMPLE)
    detail = envelope["detail"]
    team = {**LIMITS, "id": "team-1", "reserved": {"cost": "0.25", "tokens": 1}, "budget_day": "50"}
    detail["data"] |= {"client": CLIENT, "limits": LIMITS, "team": {"name": "red", "limits": team}}
    detail["data"]["server"]["name"], detail["data"]["request"]["model"] = "main", "asked"
    detail["data"]["response"] |= {"model": "asked", "finish_reasons": ["stop"]}
    detail["data"]["usage"] |= {"input_tokens": 10, "output_tokens": 7}
    for path, value in values.items():
        place: Any = detail
        *names, last = path.split("/")
        for name in names:
            place[name] = dict(place.get(name) or {})
            place = place[name]
        place[last] = value
    return envelope


def settled(values: dict[str, Any]) -> Settlement:
    found = settlement_of(event_with(values), PRICES)
    assert found
    return found


def test_each_figure_stands_where_it_belongs_for_the_key_and_for_its_team() -> None:
    event = event_with({})
    own, team = settlements_of(event, PRICES)
    cost = 10 * Decimal("0.000001") + 7 * Decimal("0.000002")
    expected = Settlement(
        event_id=event.id,
        limits_id="line-1",
        client_id="web-shop",
        client=CLIENT,  # pyright: ignore[reportArgumentType]
        taken_at=NOON,
        windows=Windows.of(NOON, Calendar(2, 28, total=True)),
        budgets={"day": Decimal(5), "week": Decimal(6), "month": Decimal(7), "total": Decimal(8)},
        reserved=Decimal("0.5"),
        actual=cost,
        is_priced=True,
        hint=PriceHint("main", "asked", Decimal("0.000001"), Decimal("0.000002"), 7),
    )
    assert own == expected
    assert team == replace(
        expected,
        limits_id="team-1",
        reserved=Decimal("0.25"),
        budgets={**expected.budgets, "day": Decimal(50)},
        hint=None,
        team="red",
    )
    assert (own.marker, team.marker) == (event.id, f"{event.id}#team")
    assert list(own.budgets) == ["day", "week", "month", "total"]


@pytest.mark.parametrize(
    ("whose", "end_user", "named"),
    [("c" * 32, "auth0|ada", "auth0|ada"), ("c" * 32, None, ""), ("line-1", "auth0|ada", ""), ("line-1", None, "")],
)
def test_who_has_signed_in_is_named_where_the_counter_is_theirs(whose: str, end_user: str | None, named: str) -> None:
    own, team = settlements_of(event_with({"data/limits/id": whose, "data/end_user": end_user}), PRICES)
    assert (own.limits_id, own.end_user, team.end_user) == (whose, named, "")
    without = envelope_with({"data/limits/id": whose})
    without["detail"]["data"].pop("end_user", None)
    assert settlements_of(read_event(without), PRICES)[0].end_user == ""


@pytest.mark.parametrize(("shard", "lane"), [(None, 0), (0, 0), (1, 1), (7, 1)])
def test_what_was_taken_of_a_shard_is_settled_in_a_lane(shard: int | None, lane: int) -> None:
    own, team = settlements_of(event_with({} if shard is None else {"data/limits/shard": shard}), PRICES)
    assert (own.lane, team.lane) == (lane, 0)


def test_a_team_alone_learns_what_an_answer_costs() -> None:
    for limits in (None, {**LIMITS, "has_budget": False}):
        [team] = settlements_of(event_with({"data/limits": limits}), PRICES)
        assert (team.team, team.hint is None) == ("red", False)
    assert [each.team for each in settlements_of(event_with({"data/team": None}), PRICES)] == [""]
    assert settlements_of(event_with({"data/team": None, "data/limits": None}), PRICES) == []


def test_a_calendar_is_as_the_event_says_and_usual_without() -> None:
    plain = {name: value for name, value in LIMITS.items() if not name.startswith("reset")}
    assert settled({"data/limits": plain}).windows == Windows.of(NOON, Calendar(0, 1, total=True))
    usual = {name: value for name, value in plain.items() if name not in ("budget_week", "budget_total")}
    found = settled({"data/limits": {**usual, "reset_weekday": "friday"}})
    assert found.windows == Windows.of(NOON)
    assert found.budgets == {"day": Decimal(5), "month": Decimal(7)}
    assert settled({"data/limits/reset_day": 0}).windows.calendar.month == 1


UNKNOWN = {"data/usage/source": "missing"}


def test_a_cost_that_nobody_knows_is_what_was_reserved() -> None:
    for values, expected in (({}, (Decimal("0.5"), False)), ({"data/limits/reserved": None}, (0, False))):
        found = settled({**UNKNOWN, **values})
        assert (found.actual, found.is_priced) == expected
    free = settled({"data/cache/status": "HIT"})
    assert (free.actual, free.is_priced, free.hint) == (0, True, None)
    assert settled({"data/limits/reserved": None}).reserved is None
    assert settled({"data/limits/reserved/cost": "0"}).reserved == 0


@pytest.mark.parametrize(("output", "answer"), [(0, None), (1, 1), (10**9, 10**9), (10**9 + 1, 10**9)])
def test_a_hint_says_of_an_answer_what_it_may_have(output: int, answer: int | None) -> None:
    hint = settled({"data/usage/output_tokens": output}).hint
    assert hint
    assert hint.answer == answer
    gift = settled({"data/response/model": "nothing", "data/request/model": "nothing"}).hint
    assert gift == PriceHint("main", "nothing", Decimal(0), Decimal(0), 7)


def test_what_asks_no_model_teaches_no_price() -> None:
    nothing = {"data/usage/source": "none", "data/usage/input_tokens": 0, "data/usage/output_tokens": 0}
    found = settled(nothing)
    assert (found.actual, found.is_priced, found.hint) == (0, True, None)


FINE: list[dict[str, Any]] = [
    {"data/limits/taken_at": 0},
    {"data/limits/taken_at": 253_402_300_799},
    {"data/limits/reset_day": 1},
    {"data/limits/reset_day": 28},
    {"data/limits/reset_weekday": "sunday"},
    {"data/limits/id": "x" * 64},
    {"data/limits/id": "A-b_c.9"},
    {"data/client/owner": None},
    {"data/client/tags": {}},
    {"data/team/name": "r" * 64},
    {"data/limits/lease": None},
]
WRONG: list[dict[str, Any]] = [
    *({"data/limits/taken_at": each} for each in (-1, 253_402_300_800, 1.0, True, "1", None)),
    *({"data/limits/reset_day": each} for each in (-1, 29, 1.0, True, "1", None)),
    *({"data/limits/reset_weekday": each} for each in ("Sunday", "", 1, None)),
    *({"data/limits/id": each} for each in ("", "x" * 65, "a b", "a#", 5, None)),
    *({"metadata/client_id": each} for each in ("", "x" * 65, "a#")),
    *({"data/limits/currency": each} for each in ("EUR", "usd", None)),
    *({f"data/limits/budget_{period}": each} for period in ("day", "week", "month", "total") for each in ("0", 5, "x")),
    *({"data/limits/reserved/cost": each} for each in (None, 1, "-1", "1e5", "abc")),
    {"data/limits/reserved": "1"},
    *({f"data/client/{name}": 5} for name in ("key_id", "name", "owner", "tags")),
    {"data/client/tags": {"a": 5}},
    {"data/client": None},
    {"data/limits": "x"},
    *({"data/limits/lease": each} for each in ({"id": ""}, {"in_doubt": True}, {"id": "x"}, "x")),
]


@pytest.mark.parametrize("place", range(len(FINE)))
def test_what_is_just_right_is_settled(place: int) -> None:
    assert settled(FINE[place]).limits_id


@pytest.mark.parametrize("place", range(len(WRONG)))
def test_what_cannot_be_is_settled_as_nothing_else(place: int) -> None:
    with pytest.raises(MalformedEventError, match="not a InferenceCompleted event"):
        settlements_of(event_with(WRONG[place]), PRICES)


@pytest.mark.parametrize(
    "limits", ["x", 5, ["id"], {"lease": {"id": "a", "in_doubt": True}}, {"id": "a", "lease": "x"}]
)
def test_limits_in_a_wrong_form_have_left_no_lease(limits: Any) -> None:
    with pytest.raises(MalformedEventError, match="not a InferenceCompleted event"):
        left_lease_of(event_with({"data/limits": limits}))


@pytest.mark.parametrize("team", [None, {}, "red", {"name": "red"}, {"name": "a b", "limits": LIMITS}])
def test_a_team_in_a_wrong_form_is_none(team: Any) -> None:
    event = event_with({"data/team": team})
    if not team:
        assert settlement_of(event, PRICES, of_team=True) is left_lease_of(event, of_team=True) is None
    else:
        for read in (lambda: settlement_of(event, PRICES, of_team=True), lambda: left_lease_of(event, of_team=True)):
            with pytest.raises(MalformedEventError, match="not a InferenceCompleted event"):
                read()


@pytest.mark.parametrize(
    ("in_doubt", "is_so"), [(True, True), (False, False), (1, False), ("true", False), (None, False)]
)
def test_a_lease_is_of_the_key_or_of_the_team(in_doubt: Any, is_so: bool) -> None:
    lease = {"id": "abc", "in_doubt": in_doubt}
    event = event_with({"data/limits/lease": lease, "data/team/limits/lease": {**lease, "id": "def"}})
    assert left_lease_of(event) == LeftLease("line-1", "abc", is_so)
    assert left_lease_of(event, of_team=True) == LeftLease("team-1", "def", is_so)
    assert [each.lease for each in settlements_of(event, PRICES)] == [
        LeftLease("line-1", "abc", is_so),
        LeftLease("team-1", "def", is_so),
    ]


BATCHES = parse_price_book("servers: {main: {models: {asked: {input: 1, output: 2, tiers: {batch: standard}}}}}")
MARK = f"batch-{hashlib.sha256(b'main' + bytes(1) + b'file-1').hexdigest()}"


def of_batch(values: dict[str, Any], *others: str) -> Settlement | None:
    """Of a request that told what a batch has used, of `asked` and of other models."""
    usage = event_with({"data/usage/service_tier": "batch"}).data["usage"]
    parts = [{"model": model, "usage": {**usage, "input_tokens": 100}} for model in others]
    told = {"data/request/method": "GET", "data/usage/service_tier": "batch", "data/request/model": None}
    told |= {"data/fetched": {"names": ["batch_1", "file-1"], "others": parts}}
    lease = {"data/limits/lease": {"id": "abc", "in_doubt": False}}
    return settlement_of(event_with({**told, **lease, **values}), BATCHES)


def test_a_batch_is_settled_once_for_all_its_models_as_far_as_their_prices_are_known() -> None:
    own = Decimal("0.000024")
    for others, cost in (
        ((), own),
        (("asked",), own + Decimal("0.000114")),
        (("x", "asked"), own + Decimal("0.000114")),
    ):
        found = of_batch({}, *others)
        assert found
        assert (found.batch, found.marker, found.actual, found.is_priced) == (MARK, MARK, cost, True)
        assert (found.reserved, found.lease, found.hint) == (None, None, None)
    part = of_batch({"data/response/model": "x"}, "asked")
    assert part
    assert part.actual == Decimal("0.000114")
    for others in ((), ("y",), ("y", "z")):
        assert of_batch({"data/response/model": "x"}, *others) is None, "somebody may yet tell what it cost"


@pytest.mark.parametrize(
    "values",
    [
        {"data/request/method": "POST"},
        {"data/usage/service_tier": None},
        {"data/usage/service_tier": "flex"},
        {"data/fetched": None},
        {"data/fetched": {"names": [], "others": []}},
    ],
)
def test_what_is_no_batch_is_settled_by_itself(values: dict[str, Any]) -> None:
    found = of_batch({"data/request/model": "asked", **values})
    assert found
    assert (found.batch, found.marker, found.reserved) == ("", found.event_id, Decimal("0.5"))
    assert found.lease == LeftLease("line-1", "abc", in_doubt=False)


@pytest.mark.parametrize("threshold", [50, 80, 100])
@pytest.mark.parametrize("budget", ["0.000001", "5", "7.77"])
def test_a_threshold_is_reached_with_the_last_part_of_a_cent(threshold: int, budget: str) -> None:
    latest = replace(settled({}), budgets={"day": Decimal(budget)})
    just = Decimal(budget) * threshold / 100
    for spent, reached in ((just, threshold), (just - Decimal("1e-12"), {50: None, 80: 50, 100: 80}[threshold])):
        found = [each.threshold for each in crossings({"day": "2026-11-23", "day_spent": spent}, latest)]
        assert found == ([reached] if reached else [])


# -------------------------------------------------------------------------------------------------------------- periods


def test_of_each_period_the_latest_request_in_it_has_the_budget() -> None:
    one = settled({})
    day_before = replace(
        one, taken_at=NOON - 86400, windows=Windows.of(NOON - 86400, one.windows.calendar), event_id="z"
    )
    later = replace(one, taken_at=NOON + 1, event_id="a")
    other = replace(later, limits_id="other", taken_at=NOON + 9)
    counter = {"day": "2026-11-23", "week": "2026-11-18", "month": "2026-10-28", "total": "ever"}
    found = latest_of_each_period(counter, [one, day_before, later, other], "line-1")
    assert found == [(period, later) for period in ("day", "week", "month", "total")]
    counter |= {"day": "2026-11-22", "total": ""}
    found = latest_of_each_period(counter, [day_before, one], "line-1")
    assert found == [("day", day_before), ("week", one), ("month", one)]
    assert latest_of_each_period({}, [one], "line-1") == []
    assert latest_of_each_key([one, replace(one, event_id=one.event_id + "1"), one])[0].event_id == one.event_id + "1"
    assert latest_of_each_key([replace(one, event_id="x")] * 2 + [one])[0].event_id == "x"


@pytest.mark.parametrize(
    ("start", "seconds"), [("2026-11-23", 1795392000), ("2026-11", 1793491200), ("2026-10-28", 1793145600), ("ever", 0)]
)
def test_a_threshold_has_the_id_of_its_fact_and_is_told_whole(start: str, seconds: int) -> None:
    latest = settled({})
    for budget, spent, plain in (
        ("5.00", "4.10", ("5", "4.1")),
        ("100", "90", ("100", "90")),
        ("0.50", "0", ("0.5", "0")),
    ):
        crossing = Crossing("line-1", "month", start, 80, Decimal(budget), Decimal(spent))
        event = event_of(crossing, latest, NOON + 0.25)
        assert event._asdict() == {
            "detail_type": "BudgetThresholdReached",
            "id": ulid_of_fact(seconds, f"line-1#month#{start}#{plain[0]}#80"),
            "timestamp": "2026-11-23T12:00:00.250Z",
            "request_id": latest.event_id,
            "client_id": "web-shop",
            "data": {
                "client": CLIENT,
                "limits": {"id": "line-1"},
                "period": "month",
                "period_start": start,
                "threshold": 80,
                "budget": plain[0],
                "spent": plain[1],
                "currency": "USD",
            },
        }
        assert event_of(crossing, replace(latest, team="red"), NOON).data.get("team") == "red"


def test_each_period_has_its_own_threshold() -> None:
    latest = settled({})
    counter: dict[str, Any] = {"day": "2026-11-23", "week": "2026-11-18", "month": "2026-10-28", "total": "ever"}
    counter |= {
        "day_spent": Decimal("2.5"),
        "week_spent": Decimal("4.8"),
        "month_spent": 7,
        "total_spent": Decimal("3.9"),
    }
    told = [
        Crossing("line-1", "day", "2026-11-23", 50, Decimal(5), Decimal("2.5")),
        Crossing("line-1", "week", "2026-11-18", 80, Decimal(6), Decimal("4.8")),
        Crossing("line-1", "month", "2026-10-28", 100, Decimal(7), Decimal(7)),
    ]
    assert list(crossings(counter, latest)) == told
    counter |= {"told_day": 50, "told_day_budget": 5, "told_week": 50, "told_week_budget": 6, "told_month": 100}
    assert list(crossings({**counter, "told_month_budget": Decimal("7.5")}, latest)) == told[1:]
    assert list(crossings({**counter, "told_month_budget": 7, "week": "2026-11-25"}, latest)) == []
    for first in ({"day_spent": 0}, {"day": "2026-11-22"}):
        assert list(crossings({**counter, **first, "told_month_budget": Decimal("7.5")}, latest)) == told[1:]


class Counters:
    """The limits table and the bus, of which one counter is all there is."""

    def __init__(self, counter: dict[str, Any]) -> None:
        self.found, self.told = counter, list[tuple[str, Decimal]]()

    def settle(self, settlements: Any) -> dict[str, str]:
        return dict[str, str]() if list(settlements) else {}

    def counter(self, limits_id: str) -> dict[str, Any]:
        return self.found

    def publish(self, event: Any) -> None:
        self.told.append((event.data["period"], Decimal(event.data["budget"])))

    def mark_told(self, crossing: Crossing) -> None:
        assert (crossing.period, crossing.budget) == self.told[-1]


def test_the_budget_of_each_period_is_that_of_the_latest_request_in_it() -> None:
    day_before = {**LIMITS, "taken_at": NOON - 86400, "budget_month": "70"}
    bodies = [
        json.dumps(envelope_with({"metadata/id": ulid_of_fact(NOON, fact), "data/team": None, "data/limits": limits}))
        for fact, limits in (("a", day_before), ("b", {**LIMITS, "budget_day": "50"}))
    ]
    counter = {"day": "2026-11-22", "month": "2026-10-28", "day_spent": Decimal(5), "month_spent": Decimal(7)}
    made: Any = Counters(counter)
    log: Any = Log()
    hints: Any = Learned().hints
    consumer = SettleLimits(PRICES, made, made, hints, log, lambda: NOON)
    answer = consumer({"Records": [{"messageId": body[:9], "body": body} for body in bodies]})
    assert answer == {"batchItemFailures": []}
    assert made.told == [("day", 5), ("month", 7)]


# ------------------------------------------------------------------------------------------------------ buckets, leases


@given(st.integers(0, 4_000_000_000), st.booleans(), st.booleans())
def test_a_bucket_ends_with_the_second_quarter_after_it(moment: int, has_week: bool, has_total: bool) -> None:
    bucket = Windows.of(moment, Calendar(0 if has_week else None, 1, total=has_total)).bucket
    end = (moment // 900 + 3) * 900
    assert [is_expired(bucket, end - 1), is_expired(bucket, end)] == [False, True]


@pytest.mark.parametrize(
    ("attribute", "is_one"),
    [
        *((f"{prefix}_20261123_5", True) for prefix in ("r", "rw", "rt", "rwt")),
        *((f"{prefix}_20261123_5", False) for prefix in ("", "rtw", "R", "w")),
        (f"r_20261123_{253_402_300_799 // 900}", True),
        (f"r_20261123_{253_402_300_799 // 900 + 1}", False),
        ("r_2026112_5", False),
        ("r_202611234_5", False),
        ("r_2026112a_5", False),
        ("r_20261123_", False),
        ("r_20261123_٣", False),
        ("r_٢٠٢٦١١٢٣_5", False),
    ],
)
def test_a_bucket_is_called_by_day_and_quarter(attribute: str, is_one: bool) -> None:
    found = bucket_windows(attribute, Calendar(3, 5))
    assert (found is not None) == is_one
    if found:
        letters = attribute.partition("_")[0]
        assert found == Windows.of(found.now, Calendar(3 if "w" in letters else None, 5, total="t" in letters))
        assert found.now == int(attribute.rpartition("_")[2]) * 900
        if found.day == "2026-11-23":
            assert found.bucket == attribute


def test_a_lease_is_called_by_the_last_ten_characters_and_says_what_it_holds() -> None:
    assert lease_of("0123456789ABCDEF") == "6789ABCDEF"
    lease = Leased.of({"end": 7, "cost": "0.5", "at": NOON, "counted": "wt"})
    assert lease == Leased(7, Decimal("0.5"), NOON, "wt")
    assert lease.windows(Calendar(2, 9)) == Windows.of(NOON, Calendar(2, 9, total=True))
    assert Leased(7).windows(Calendar(2, 9, total=True)) == Windows.of(0, Calendar(None, 9))


# ---------------------------------------------------------------------------------------------------------------- hints


class Learned:
    """Hints on a clock that the test moves: what is written, and when it is read."""

    def __init__(self, known: int | None = None) -> None:
        self.now, self.written, self.read, self.log = 0.0, list[PriceHint](), list[str](), Log()
        self.known, self.fails = known, False
        logger: Any = self.log
        self.hints = PriceHints(self.write, self.usual, logger, lambda: self.now)

    def write(self, hint: PriceHint) -> None:
        if self.fails:
            raise RuntimeError("down")
        self.written.append(hint)

    def usual(self, hint: PriceHint) -> int | None:
        self.read.append(hint.model)
        if self.fails:
            raise RuntimeError("down")
        return self.known

    def learn(self, answer: int | None = 100, price: int = 1, model: str = "m", after: float = 0) -> PriceHint | None:
        """What is written when a hint is learned so long after the one before."""
        self.now += after
        before = len(self.written)
        self.hints.learn([PriceHint("s", model, Decimal(price), Decimal(2), answer)])
        return self.written[-1] if len(self.written) > before else None


def test_a_price_is_written_when_it_changes_but_not_more_often_than_every_ten_minutes() -> None:
    learned = Learned()
    assert learned.learn() == PriceHint("s", "m", Decimal(1), Decimal(2), 100)
    assert learned.learn(price=3, after=599.5) is None
    assert learned.learn(price=3, after=0.5) == PriceHint("s", "m", Decimal(3), Decimal(2), 100)
    assert learned.learn(price=3, after=86_399) is None
    assert learned.learn(price=3, after=1) is not None
    assert learned.learn(model="other") is not None
    assert learned.read == ["m", "other"]


def test_one_that_is_no_news_keeps_no_other_of_its_batch_from_being_written() -> None:
    learned = Learned()
    learned.learn(model="b")
    learned.hints.learn([PriceHint("s", model, Decimal(1), Decimal(2), 100) for model in ("a", "b", "c")])
    assert [each.model for each in learned.written] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("before", "answer", "usual", "is_news"),
    [
        (None, 100, 100, True),
        (100, 100, 100, False),
        (100, 200, 150, False),
        (100, 202, 151, True),
        (100, 102, 101, False),
        (100, 0, 95, False),
        (100, None, 100, False),
        (3, 0, 3, False),
        (1, 0, 1, False),
    ],
)
def test_what_is_usual_moves_by_half_up_and_a_twentieth_down(
    before: int | None, answer: int | None, usual: int, is_news: bool
) -> None:
    learned = Learned()
    learned.learn(before)
    assert learned.learn(before, after=59.5) is None
    assert (learned.learn(answer, after=0.5) is not None) == is_news
    assert learned.learn(answer=None, model="new") == PriceHint("s", "new", Decimal(1), Decimal(2), None)
    [hint] = [each for each in [learned.learn(None, after=86_400)] if each]
    assert hint.answer == usual


def test_what_was_written_before_is_where_it_goes_on() -> None:
    learned = Learned(known=200)
    assert learned.learn(100) == PriceHint("s", "m", Decimal(1), Decimal(2), 195)
    assert Learned(known=200).learn(None) == PriceHint("s", "m", Decimal(1), Decimal(2), 200)


def test_a_table_that_is_down_costs_a_hint_and_a_line() -> None:
    learned = Learned()
    learned.fails = True
    assert learned.learn() is None
    line = {"level": "warning", "server": "s", "reason": "RuntimeError('down')"}
    assert learned.log.lines == [{**line, "message": f"A price hint was not {what}"} for what in ("read", "written")]
    learned.fails = False
    assert learned.learn(after=86_399) is None, "it is not tried again at once"
    assert learned.learn(after=1) is not None
