"""What settle_limits says in its log, compared whole: whoever looks for a lost cent has nothing else."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.events.bus import NotPublishedError
from openai_proxy.events.ulid import first_ulid_of
from openai_proxy.limits import Windows
from openai_proxy.pricing.price_book import parse_price_book
from settle_limits.consumer import SettleLimits
from settle_limits.price_hints import PriceHints
from settle_limits.table import LimitsTable

from tests.limits.table import AsBoto3, LimitsItems
from tests.tables import Log, failures

SAMPLE = Path(__file__).parents[3] / "events" / "samples" / "InferenceCompleted.chat-stream.json"
PRICES = parse_price_book("servers: {openai: {models: {gpt-4o-mini: {input: 1, output: 2}}}}")
NOW = 1_795_426_900
IDS = [first_ulid_of(NOW + number) for number in range(4)]
TRACE = "1-5759e988-bd862e3fe1be46a994272793"

Line = dict[str, Any]


class Failing(AsBoto3):
    """The table, of which one call fails."""

    failing = ""
    failure: BaseException | None = None

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "failing"):
            failure = object.__getattribute__(self, "failure")
            raise failure or ClientError({"Error": {"Code": "InternalServerError", "Message": "later"}}, name)
        return object.__getattribute__(self, name)


@dataclass
class World:
    """A table with what two requests have reserved, a bus, and the consumer, which logs when it is called."""

    table: LimitsItems = field(default_factory=LimitsItems)
    refuses: bool = False
    published: list[Any] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        windows = Windows.of(NOW)
        counter: dict[str, Any] = {"pk": {"S": "limits#k"}, "day": {"S": windows.day}, "month": {"S": windows.month}}
        counter |= {f"{period}_{kind}": {"N": "4"} for period in ("day", "month") for kind in ("cost", "spent")}
        self.table.items["limits#k"] = counter | {windows.bucket: {"N": "2"}, "live": {"M": {"x": {"N": "1"}}}}
        self.client, self.log = Failing(self.table), Log()
        client: Any = self.client
        logger: Any = self.log
        table = LimitsTable(client, "limits", lambda _: None, lambda: NOW)
        hints = PriceHints(table.write_hint, table.usual_answer, logger, lambda: NOW)
        self.consumer = SettleLimits(PRICES, table, self, hints, logger, lambda: NOW)

    def publish(self, event: Any) -> None:
        if self.refuses:
            raise NotPublishedError("ThrottlingException")
        self.published.append(event)

    def __call__(self, *messages: Line) -> tuple[list[str], list[Line]]:
        """The messages that are to come again, and the log."""
        return failures(self.consumer({"Records": messages})), self.log.lines


def message(number: int, **limits: Any) -> Line:
    envelope = json.loads(SAMPLE.read_text(encoding="utf-8"))
    envelope["detail"]["metadata"]["id"] = IDS[number]
    data = envelope["detail"]["data"]
    data["client"] = {"key_id": "k", "name": "Web shop", "owner": None, "tags": {}}
    data["limits"] = {
        "id": "k",
        "status": "checked",
        "has_budget": True,
        "reserved": {"cost": "1", "tokens": 900},
        "taken_at": NOW,
        "budget_day": "5",
        "budget_month": "100",
        "currency": "USD",
        **limits,
    }
    header = {"AWSTraceHeader": f"Root={TRACE};Parent=53995c3f42cd8ad8;Sampled=1"}
    return {"messageId": f"m{number}", "body": json.dumps(envelope), "attributes": header}


LEFT = message(0, has_budget=False, lease={"id": "x", "in_doubt": False})
REACHED = {
    "level": "info",
    "message": "A budget threshold was reached",
    "limits_id": "k",
    "period": "day",
    "threshold": 80,
}
UNTOLD = {"level": "exception", "message": "Budget thresholds were not told", "event_id": IDS[0]}


def batch(**counts: int) -> Line:
    line = {"level": "info", "message": "A batch was settled", "messages": 1, "settled": 1, "unpriced": 0, "failed": 0}
    return line | {"traces": [TRACE]} | counts


def error(call: str) -> str:
    return f"An error occurred (InternalServerError) when calling the {call} operation: later"


UNSETTLED = {
    "level": "warning",
    "message": "A request was not settled",
    "event_id": IDS[0],
    "reason": error("transact_write_items"),
}


NOT_READ = {"level": "warning", "message": "A price hint was not read", "server": "openai"}
NOT_READ["reason"] = f"ClientError({error('get_item')!r})"


@pytest.mark.parametrize("failure", [NoAnswerError("?"), EndpointConnectionError(endpoint_url="x"), None], ids=repr)
def test_a_lease_that_cannot_be_given_back_fails_its_message_alone(failure: BaseException | None) -> None:
    world = World()
    world.client.failing, world.client.failure = "update_item", failure
    assert world(LEFT, message(1, budget_day=None))[0] == ["m0"]


def test_a_threshold_and_a_batch_are_told_and_what_could_not_be_read_or_priced() -> None:
    messages = message(0), message(1, id="a#b"), message(2, reserved=None) | {"body": "{"}, message(3)
    failed, lines = World()(*messages)
    refused = [line for line in lines if line["message"] == "A message was refused"]
    assert [(line["message_id"], line["traces"]) for line in refused] == [("m1", [TRACE]), ("m2", [TRACE])]
    assert failed == ["m1", "m2"]
    assert lines[2:] == [REACHED, batch(messages=4, settled=2, failed=2)]


def test_a_threshold_is_published_as_it_is() -> None:
    world = World()
    world(message(0))
    (event,) = world.published
    assert (event.detail_type, event.request_id, event.timestamp) == (
        *("BudgetThresholdReached", IDS[0]),
        "2026-11-23T09:41:40.000Z",
    )
    assert event.data == {
        "client": {"key_id": "k", "name": "Web shop", "owner": None, "tags": {}},
        "limits": {"id": "k"},
        "period": "day",
        "period_start": "2026-11-23",
        "threshold": 80,
        "budget": "5",
        "spent": "4.001958",
        "currency": "USD",
    }


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"id": "a#b"}, "ValueError"),
        ({"reserved": {}}, "KeyError"),
        ({"reserved": {"cost": 5}}, "TypeError"),
        ({"currency": "EUR"}, "ValueError"),
        ({"has_budget": False, "lease": {"in_doubt": True}}, "KeyError"),
        ({"has_budget": False, "lease": {"id": 5}}, "TypeError"),
        ({"has_budget": False, "lease": {"id": "a#b"}}, "ValueError"),
    ],
)
def test_what_cannot_be_read_says_why(limits: Line, why: str) -> None:
    failed, (refused, *_) = World()(message(0, **limits))
    assert failed == ["m0"]
    assert refused["reason"].startswith(f"not a InferenceCompleted event: {why}(")


def test_limits_that_are_no_object_are_refused() -> None:
    sent = message(0)
    envelope = json.loads(sent["body"])
    envelope["detail"]["data"]["limits"] = "k"
    failed, (refused, *_) = World()(sent | {"body": json.dumps(envelope)})
    assert failed == ["m0"]
    assert refused["reason"].startswith("not a InferenceCompleted event: AttributeError(")


@pytest.mark.parametrize(
    ("call", "sent", "failed", "lines"),
    [
        (
            "transact_write_items",
            message(0),
            ["m0"],
            [
                {
                    "level": "warning",
                    "message": "A request was not settled",
                    "event_id": IDS[0],
                    "reason": error("transact_write_items"),
                },
                batch(settled=0, failed=1),
            ],
        ),
        ("update_item", message(0), ["m0"], [UNTOLD, batch(failed=1)]),
        ("get_item", message(0), ["m0"], [UNTOLD, NOT_READ, batch(failed=1)]),
        (
            "update_item",
            LEFT,
            ["m0"],
            [
                {"level": "exception", "message": "A lease was not given back", "limits_id": "k"},
                batch(settled=0, failed=1),
            ],
        ),
        ("nothing", LEFT, [], [batch(settled=0)]),
        ("nothing", message(0, budget_day=None), [], [batch()]),
    ],
    ids=["not settled", "not told", "not known", "not given back", "given back", "nothing to tell"],
)
def test_what_fails_says_whose_it_is_and_why(call: str, sent: Line, failed: list[str], lines: list[Line]) -> None:
    world = World()
    world.client.failing = call
    assert world(sent) == (failed, lines)


def test_an_odd_answer_to_one_lease_takes_no_other_message() -> None:
    world = World()
    world.client.failing, world.client.failure = "update_item", AttributeError("'int' object has no attribute 'get'")
    told_before = message(1, budget_day=None)
    lines = [{"level": "exception", "message": "A lease was not given back", "limits_id": "k"}]
    assert world(LEFT, told_before) == (["m0"], [*lines, batch(failed=1, messages=2)])


def test_a_message_comes_again_once_though_both_its_key_and_its_team_are_not_settled() -> None:
    world, envelope = World(), json.loads(message(0)["body"])
    world.client.failing = "transact_write_items"
    data = envelope["detail"]["data"]
    data["team"] = {"name": "red", "limits": {**data["limits"], "id": "team.red"}}
    lines = [UNSETTLED, UNSETTLED, batch(settled=0, failed=1)]
    assert world(message(0) | {"body": json.dumps(envelope)}) == (["m0"], lines)


@pytest.mark.parametrize("times", [1, 7, 8])
def test_what_dynamodb_does_not_say_that_it_has_written_is_not_settled(times: int) -> None:
    world = World()
    world.client.faults = ["silent"] * times
    reason = "DynamoDB did not say that it has written"
    unsettled = ["m0"], [UNSETTLED | {"reason": reason}, batch(settled=0, failed=1)]
    assert world(message(0)) == (unsettled if times == 8 else ([], [REACHED, batch()]))


def test_a_bus_that_takes_nothing_leaves_thresholds_untold() -> None:
    assert World(refuses=True)(message(0)) == (["m0"], [UNTOLD, batch(failed=1)])


def test_a_hint_that_cannot_be_written_costs_a_line() -> None:
    world = World()
    world.client.failing = "put_item"
    reason = f"ClientError({error('put_item')!r})"
    assert world(message(0))[1][1] == NOT_READ | {"message": "A price hint was not written", "reason": reason}
