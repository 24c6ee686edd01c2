"""What record_cost and store_response say in their logs, and what they hand on, compared whole."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.events.ulid import first_ulid_of, ulid_time
from openai_proxy.ledger.entries import LedgerEntry
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import parse_price_book
from record_cost.consumer import RecordCost
from store_response.consumer import StoreResponse

from tests.costs_fake import FakeCostsTable
from tests.tables import Log, failures

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
PRICES = parse_price_book("servers: {openai: {models: {gpt-4o-mini: {input: 1, output: 2}}}}")
NOW = 1_795_426_900
IDS = [first_ulid_of(NOW + number) for number in range(4)]
TRACE = "1-5759e988-bd862e3fe1be46a994272793"

Line = dict[str, Any]


def message(number: int, sample: str = "InferenceCompleted.chat-stream", **data: Any) -> Line:
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    envelope["detail"]["metadata"]["id"] = IDS[number]
    envelope["detail"]["data"] |= data
    header = {"AWSTraceHeader": f"Root={TRACE};Parent=53995c3f42cd8ad8;Sampled=1"}
    return {"messageId": f"m{number}", "body": json.dumps(envelope), "attributes": header}


@dataclass
class Costs:
    """record_cost with a ledger, a lake and metrics in memory; the lake or the metrics may take nothing."""

    has_lake: bool = True
    has_metrics: bool = True
    refusing: str = ""
    sent: list[str] = field(default_factory=list[str])
    data: list[Any] = field(default_factory=list[Any])
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        client, logger = FakeCostsTable(), self.log
        ledger: Any = CostsTable(client, "costs", lambda _: None)  # pyright: ignore[reportArgumentType]
        lake = self if self.has_lake else None
        metrics: Any = Metrics(self) if self.has_metrics else None
        self.consumer = RecordCost(PRICES, ledger, logger, lake, metrics, lambda: NOW)  # pyright: ignore[reportArgumentType]

    def put(self, entries: Iterable[LedgerEntry]) -> dict[Any, str]:
        keys = [entry.key for entry in entries]
        assert keys, "of nothing nothing is sent"
        self.sent += [key[1] for key in keys]
        return dict.fromkeys(keys, "Firehose: no answer") if self.refusing == "lake" else {}

    def __call__(self, *messages: Line) -> tuple[list[str], list[Line]]:
        self.log.lines.clear()
        return failures(self.consumer({"Records": messages})), list(self.log.lines)


@dataclass
class Metrics:
    """Takes metric data, which are never none."""

    of: Costs

    def put(self, data: Sequence[Any]) -> None:
        assert data
        if self.of.refusing == "metrics":
            raise RuntimeError("not now")
        self.of.data += [datum["MetricName"] for datum in data]


def recorded(**counts: Any) -> Line:
    line = {"level": "info", "message": "A batch was recorded", "messages": 1, "entries": 1, "unpriced": 0, "failed": 0}
    return line | {"traces": [TRACE]} | counts


UNPRICED = "InferenceCompleted.usage-missing"


def test_a_batch_of_costs_is_told_with_what_is_in_it() -> None:
    world = Costs()
    sent = (
        message(0),
        message(1, UNPRICED),
        message(2, "InferenceThrottled.key-rpm"),
        message(0) | {"messageId": "again"},
    )
    assert world(*sent) == ([], [recorded(messages=4, entries=2, unpriced=1)])
    assert world.sent == IDS[:2]
    counted = list(world.data)
    assert {"EventsRecorded", "Cost", "Unpriced"} <= set(counted)
    assert world(*sent[:2]) == ([], [recorded(messages=2, entries=2, unpriced=1)])
    assert (world.sent, world.data) == (IDS[:2] * 2, counted), "what comes again goes to the lake again and counts once"
    assert world(sent[2]) == ([], [recorded(entries=0)])


def test_a_piece_without_a_price_is_a_gap_in_the_price_book_though_the_answer_has_one() -> None:
    priced, gap = Costs(), Costs()
    priced(message(0))
    usage = json.loads(message(0)["body"])["detail"]["data"]["usage"]
    assert gap(message(0, usage={**usage, "units": {"page": 2}})) == ([], [recorded()])
    assert (sorted({*gap.data} - {*priced.data}), "Cost" in gap.data) == (["Unpriced"], True)


def test_what_the_lake_does_not_take_comes_again_and_says_why() -> None:
    world = Costs(refusing="lake")
    line = {"level": "warning", "message": "An entry was not written", "reason": "Firehose: no answer"}
    twice = message(0), message(0) | {"messageId": "again"}
    assert world(*twice) == (["m0", "again"], [line | {"event_id": IDS[0]}, recorded(messages=2, failed=2)])
    assert world.data, "it is in the ledger"


def test_metrics_that_nobody_takes_cost_a_line_and_no_entry() -> None:
    line = {"level": "warning", "message": "Metrics were not published", "reason": "RuntimeError('not now')"}
    assert Costs(refusing="metrics")(message(0)) == ([], [line, recorded()])


@pytest.mark.parametrize("has_lake", [True, False])
@pytest.mark.parametrize("has_metrics", [True, False])
def test_a_stack_without_a_lake_or_without_metrics_records_all_the_same(has_lake: bool, has_metrics: bool) -> None:
    world = Costs(has_lake, has_metrics)
    assert world(message(0)) == ([], [recorded()])
    assert (bool(world.sent), bool(world.data)) == (has_lake, has_metrics)


class Claims:
    """A ledger that has taken back `item` for whatever is claimed, and a lake; either may fail."""

    def __init__(self, unwritten: str = "", unread: BaseException | None = None, unsent: str = "") -> None:
        self.unwritten, self.unread, self.unsent = unwritten, unread, unsent
        self.asked: list[str] = []
        self.sent_again: list[Any] = []
        self.taken_back = [{"pk": "client#a#2026-11-23", "sk": "older", "revision": 1}]

    def record(self, entries: Iterable[LedgerEntry]) -> dict[Any, str]:
        return {entry.key: "not now" for entry in entries if entry.key[1] == self.unwritten}

    def taken_back_by(self, entry: LedgerEntry) -> list[Any]:
        self.asked.append(entry.event_id)
        if self.unread:
            raise self.unread
        return self.taken_back

    def put(self, entries: Iterable[LedgerEntry]) -> dict[Any, str]:
        return {}

    def put_again(self, items: Iterable[Any]) -> dict[Any, str]:
        self.sent_again.append(list(items))
        return {("client#a#2026-11-23", "older"): self.unsent} if self.unsent else {}


def claimed(world: Claims, *, has_lake: bool = True) -> tuple[list[str], list[Line]]:
    """What becomes of three messages: two that tell of what was made before, and one that does not."""
    log: Any = Log()
    fetched: Any = {"fetched": {"names": ["a batch"], "digest": None, "others": []}}
    lake = world if has_lake else None
    consumer = RecordCost(PRICES, world, log, lake, None, lambda: NOW)
    sent = message(0, **fetched), message(1), message(2, **fetched)
    return failures(consumer({"Records": sent})), [line for line in log.lines if line["level"] == "warning"]


def not_written(number: int, reason: str) -> Line:
    return {"level": "warning", "message": "An entry was not written", "event_id": IDS[number], "reason": reason}


def test_what_is_taken_back_goes_to_the_lake_again_for_each_event_that_claims_and_is_written() -> None:
    world = Claims()
    assert (claimed(world), world.asked) == (([], []), [IDS[0], IDS[2]])
    assert world.sent_again == [world.taken_back] * 2
    unwritten = Claims(unwritten=IDS[0])
    assert claimed(unwritten) == (["m0"], [not_written(0, "not now")])
    assert (unwritten.asked, unwritten.sent_again) == ([IDS[2]], [unwritten.taken_back])
    nothing, no_lake = Claims(), Claims()
    nothing.taken_back = []
    assert (claimed(nothing), nothing.asked, nothing.sent_again) == (([], []), [IDS[0], IDS[2]], [])
    assert (claimed(no_lake, has_lake=False), no_lake.asked, no_lake.sent_again) == (([], []), [], [])


UNREAD = [ClientError({"Error": {"Code": "InternalServerError", "Message": "later"}}, "GetItem"), NoAnswerError("?")]
UNREAD_AND_UNHEARD: list[Exception] = [*UNREAD, EndpointConnectionError(endpoint_url="x"), TypeError("odd")]


@pytest.mark.parametrize("error", UNREAD_AND_UNHEARD, ids=lambda error: type(error).__name__)
def test_where_what_is_taken_back_cannot_be_read_the_message_comes_again(error: Exception) -> None:
    lines = [not_written(0, repr(error)), not_written(2, repr(error))]
    assert claimed(Claims(unread=error)) == (["m0", "m2"], lines)


def test_where_what_is_taken_back_does_not_reach_the_lake_the_message_comes_again() -> None:
    lines = [not_written(0, "Firehose: full"), not_written(2, "Firehose: full")]
    assert claimed(Claims(unsent="Firehose: full")) == (["m0", "m2"], lines)


# ------------------------------------------------------------------------------------------------------ store_response


class Cache:
    """Keeps what it is given, or fails."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure, self.items = failure, list[Any]()

    def store(self, item: Any) -> bool:
        if self.failure:
            raise self.failure
        self.items.append(item)
        return True


def stored(cache: Cache, *messages: Line, now: float = NOW) -> tuple[list[str], list[Line]]:
    log: Any = Log()
    return failures(StoreResponse(cache, PRICES, log, lambda: now)({"Records": messages})), log.lines


def told(**counts: Any) -> Line:
    line = {
        "level": "info",
        "message": "A batch was stored",
        "messages": 1,
        "answers": 1,
        "failed": 0,
        "traces": [TRACE],
    }
    return line | counts


def answer(number: int, **data: Any) -> Line:
    moments = {"created_at": NOW, "expires_at": NOW + 3600}
    return message(number, "ResponseCaptured.chat", **moments | data)


def test_of_answers_to_one_question_the_newest_is_stored() -> None:
    cache = Cache()
    assert stored(cache, answer(0), answer(2), answer(1), message(3)) == ([], [told(messages=4)])
    assert [item["event_id"]["S"] for item in cache.items] == [IDS[2]]


@pytest.mark.parametrize(("left", "is_over"), [(1, False), (0, True), (-1, True)])
def test_an_answer_whose_time_is_over_is_dropped_to_the_second(left: int, is_over: bool) -> None:
    cache = Cache()
    dropped = {"level": "info", "message": "An answer was dropped: it expired before it was stored", "event_id": IDS[0]}
    expected = [dropped, told(answers=0)] if is_over else [told()]
    assert stored(cache, answer(0, expires_at=NOW + left)) == ([], expected)
    assert bool(cache.items) != is_over


@pytest.mark.parametrize(("ahead", "is_read"), [(300, True), (301, False)])
@pytest.mark.parametrize("what", ["created_at", "id"])
def test_an_answer_from_the_future_is_refused_to_the_second(what: str, ahead: int, is_read: bool) -> None:
    sent = answer(0, created_at=NOW + ahead) if what == "created_at" else answer(0)
    now = NOW if what == "created_at" else ulid_time(IDS[0]).timestamp() - ahead
    assert stored(Cache(), sent, now=now)[0] == ([] if is_read else ["m0"])


FAILURES = [
    ClientError({"Error": {"Code": "InternalServerError", "Message": ""}}, "PutItem"),
    EndpointConnectionError(endpoint_url="x"),
    NoAnswerError("?"),
    AttributeError("'int' object has no attribute 'get'"),
]
"""Those of AWS, and what its SDK raises when it cannot read an answer."""


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_an_answer_that_is_not_stored_comes_again(failure: BaseException) -> None:
    line = {"level": "exception", "message": "An answer was not stored", "event_id": IDS[0]}
    assert stored(Cache(failure), answer(0)) == (["m0"], [line, told(failed=1)])
