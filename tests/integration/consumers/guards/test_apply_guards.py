"""apply_guards against DynamoDB (moto): each act once, the same as a replay says, and undone for good."""

import copy
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from apply_guards.consumer import ApplyGuards
from apply_guards.evidence import ContendedError, Table
from apply_guards.overlays import Overlays
from apply_guards.teller import Teller, Words
from authorizer.guards import Guards
from botocore.exceptions import ClientError
from moto import mock_aws
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.envelope import Event
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.engine import Engine
from openai_proxy.guards.evidence import Evidence, Memory
from openai_proxy.guards.file import parse_guards
from openai_proxy.guards.overlay import held_by, overlay_key
from openai_proxy.guards.seen import moment, seen_of
from openai_proxy.key_context import CACHE_ONLY, ClientKey
from openai_proxy.key_limits import Limits
from openai_proxy.ledger.entries import entries_of
from openai_proxy.pricing.price_book import parse_price_book

from console.guards.held import DoneActs
from console.guards.replay import replayed
from console.period import Period
from console.stack import Table as ConsoleTable
from tests.fakes import read_event
from tests.tables import Log, failures, make_table

SAMPLE = json.loads((Path(__file__).parents[4] / "events/samples/InferenceCompleted.chat-stream.json").read_text())
MONDAY = 1_795_392_000.0
"""2026-11-23, 00:00 UTC."""
HOUR = 3600.0
KEY = "0123456789ab"
PRICES = parse_price_book("servers: {openai: {models: {one: {request: 1}, dear: {request: 40}, free: {request: 0}}}}")
FILE = """
guards:
  repeats: {rule: repeat, times: 3, within: 1m, act: lower, limits: {rpm: 5}, for: 1h}
  refusals: {rule: refused, times: 2, within: 10s, act: notify, for: 1m}
  night: {rule: hours, models: [free], days: [monday], from: "07:00", to: "19:00", act: cache_only, for: 2h}
  dear: {rule: spend, factor: 10, at_least: 5, act: disable, for: 6h}
"""
GUARDS = parse_guards(FILE)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        for name, keys in (("costs", ("pk", "sk")), ("keys", ("key_hash",))):
            make_table(client, name, *keys)
        yield client


@pytest.fixture
def tables(client: Any) -> Any:
    for name, keys in (("costs", ("pk", "sk")), ("keys", ("key_hash",))):
        for page in client.get_paginator("scan").paginate(TableName=name):
            for item in page["Items"]:
                client.delete_item(TableName=name, Key={each: item[each] for each in keys})
    return client


@dataclass
class World:
    """The consumer, with a bus and a topic in memory. `fails` is how often the bus fails first."""

    tables: Any
    fails: int = 0
    now: float = MONDAY
    told: list[Event[Any, Any]] = field(default_factory=list[Event[Any, Any]])
    mails: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    log: Log = field(default_factory=Log)
    evidence: Evidence | None = None

    def consumer(self) -> ApplyGuards:
        """A new sandbox, which remembers nothing."""
        logger: Any = self.log
        engine = Engine(GUARDS, self.evidence or Table(self.tables, "costs", lambda _: None))
        teller = Teller(self, Mails(self), Words("openai-proxy", "docs/runbooks", "slack"), logger)
        acts = Overlays(self.tables, "keys", lambda _: None)
        return ApplyGuards(PRICES, engine, acts, teller, logger, lambda: self.now)

    def publish(self, event: Event[Any, Any]) -> None:
        if self.fails:
            self.fails -= 1
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "PutEvents")
        self.told.append(event)

    def overlay(self, key_id: str = KEY) -> dict[str, Any]:
        found = self.tables.get_item(TableName="keys", Key=to_item({"key_hash": overlay_key(key_id)}))
        return from_item(found["Item"]) if "Item" in found else {"acts": {}}


@dataclass
class Mails:
    """The topic."""

    world: World

    def publish(self, subject: str, text: str) -> None:
        self.world.mails.append((subject, text))


def request(at: float, fact: str = "", model: str = "free", digest: str = "0" * 16, **of: Any) -> dict[str, Any]:
    """The envelope of a request that came so many seconds after Monday began."""
    envelope = copy.deepcopy(SAMPLE)
    detail = envelope["detail"]
    detail["metadata"]["id"] = ulid_of_fact(MONDAY + at, fact or f"{at}{model}{digest}{of}")
    detail["data"]["client"]["key_id"] = of.get("key_id", KEY)
    detail["data"]["server"]["name"] = "openai"
    detail["data"]["response"] |= {"model": model, "status_code": of.get("status", 200)}
    detail["data"]["request"] |= {"model": model, "digest": digest}
    return envelope


def batch(*envelopes: Mapping[str, Any]) -> dict[str, Any]:
    return {"Records": [{"messageId": str(n), "body": json.dumps(each)} for n, each in enumerate(envelopes)]}


def replay(envelopes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the command says of the ledger of these requests: each act's id, and its guard."""
    entries = [
        {"sk": each.key[1], **each.attributes}
        for envelope in envelopes
        for _, each in entries_of(read_event(envelope), PRICES)
    ]
    found = replayed(GUARDS, sorted(entries, key=lambda entry: entry["sk"]), Period(date(2026, 11, 1), date.max))
    return {action.id: action.guard for action in found.actions}


def history(numbers: random.Random, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    at = -30 * HOUR
    for number in range(count):
        at += numbers.choice((1.0, 1.0, 5.0, 19.9, 30.0, 3599.0, 7200.0))
        found.append(
            request(
                at,
                str(number),
                numbers.choice(("one", "dear", "free", "free")),
                numbers.choice(("0" * 16, "1" * 16)),
                status=numbers.choice((200, 401)),
                key_id=numbers.choice((KEY, "c" * 32)),
            )
        )
    return found


def test_what_a_replay_says_is_what_two_consumers_did_with_copies_in_another_order(tables: Any) -> None:
    numbers = random.Random(2)
    world, requests = World(tables), history(numbers, 50)
    came = [moment(each["detail"]["metadata"]["id"]) for each in requests]
    delivered = [(at + numbers.uniform(0, 600), each) for at, each in zip(came, requests, strict=True)]
    copies = [(when + numbers.uniform(0, 48 * HOUR), each) for when, each in delivered if numbers.random() < 0.3]
    consumers = world.consumer(), world.consumer()
    waiting: list[Any] = []
    for when, each in sorted([*delivered, *copies], key=lambda pair: pair[0]):
        if waiting and (when > world.now + 60 or len(waiting) == 5):
            assert failures(numbers.choice(consumers)(batch(*waiting))) == []
            waiting.clear()
        waiting.append(each)
        world.now = when
    assert failures(numbers.choice(consumers)(batch(*waiting))) == []
    told = {event.id: str(event.data["guard"]) for event in world.told}
    assert told == replay(requests)
    assert len(world.told) == len(told) == len(world.mails)
    assert set(told.values()) >= {"repeats", "refusals", "night"}


def test_an_act_is_written_and_told_once_however_often_its_reason_comes(tables: Any) -> None:
    world = World(tables)
    flood = [request(8 * HOUR + n) for n in range(6)]
    world.now = MONDAY + 8 * HOUR + 10
    for consumer in (world.consumer(), world.consumer()):
        for _ in range(2):
            assert failures(consumer(batch(*flood))) == []
    [event] = world.told
    assert (event.detail_type, event.client_id, event.data["act"]) == ("GuardActed", "web-shop", "lower")
    assert event.request_id == flood[2]["detail"]["metadata"]["id"]
    [(act_id, act)] = world.overlay()["acts"].items()
    assert (act_id, float(act["until"]), act["told"]) == (event.id, MONDAY + 9 * HOUR + 2, True)
    [(subject, text)] = world.mails
    assert subject == "[openai-proxy] Guard repeats: web-shop (lower)"
    assert f"openai-proxy guards undo {event.id}" in text
    assert "its limits are lowered to 5 rpm, until 2026-11-23 09:00 UTC" in text


def test_what_could_not_be_told_is_held_at_once_and_told_when_it_comes_again(tables: Any) -> None:
    world = World(tables, fails=1, now=MONDAY + 8 * HOUR)
    flood = batch(*(request(8 * HOUR + n) for n in range(3)), request(8 * HOUR, "other", key_id="f" * 12))
    assert failures(world.consumer()(flood)) == ["0", "1", "2"]
    assert held_by(world.overlay(), world.now).limits == {"rpm": 5}
    assert world.told == []
    assert failures(world.consumer()(flood)) == []
    assert len(world.told) == len(world.mails) == 1


def test_an_act_that_would_be_over_is_not_begun_and_a_notice_is_told_for_a_day(tables: Any) -> None:
    world = World(tables, now=MONDAY + 20 * HOUR)
    late = [request(8 * HOUR + n, status=401) for n in range(3)]
    assert failures(world.consumer()(batch(*late))) == []
    assert [event.data["guard"] for event in world.told] == ["refusals"]
    tables.delete_item(TableName="keys", Key=to_item({"key_hash": overlay_key(KEY)}))
    world.now = MONDAY + 32 * HOUR + 1
    assert failures(world.consumer()(batch(*late))) == []
    assert len(world.told) == 1


def test_what_a_person_undid_is_not_done_again_before_it_would_have_ended(tables: Any) -> None:
    world = World(tables, now=MONDAY + 8.9 * HOUR)
    consumer = world.consumer()
    consumer(batch(*(request(8.9 * HOUR + n) for n in range(3))))
    acts = DoneActs(ConsoleTable(tables, "keys"))
    [act] = acts.all()
    assert acts.undo(act, world.now)
    assert not acts.undo(act, world.now)
    # The next stretch of the clock begins at 9: the act would have gone on until 9:54.
    world.now = MONDAY + 9.5 * HOUR
    consumer(batch(*(request(9.5 * HOUR + n) for n in range(3))))
    assert len(world.told) == 1
    assert held_by(world.overlay(), world.now).limits == {}
    world.now = MONDAY + 10.1 * HOUR
    consumer(batch(*(request(10.1 * HOUR + n) for n in range(3))))
    assert len(world.told) == 2
    assert held_by(world.overlay(), world.now).limits == {"rpm": 5}


def test_a_key_that_spends_ten_times_as_much_as_usual_is_disabled_and_let_in_when_that_ends(tables: Any) -> None:
    world = World(tables, now=MONDAY + 8 * HOUR)
    consumer = world.consumer()
    for hour in range(30):
        consumer(batch(*[request((6 - hour) * HOUR, model="one", digest=f"{hour:016x}")] * 2))
    assert world.told == []
    consumer(batch(request(8 * HOUR, model="dear", digest="f" * 16)))
    [event] = world.told
    assert (
        event.data["reason"] == "40.00 USD in the hour from 2026-11-23 08:00 UTC, 40.0 times its usual 1.00 USD an hour"
    )
    key = ClientKey("web-shop", key_id=KEY, limits=Limits(KEY, rpm=60, budget_day=Decimal(3)), line=KEY)

    def judged(at: float) -> ClientKey:
        def find(_: str) -> Mapping[str, Any]:
            return world.overlay()

        return Guards(find, lambda: at)(key)

    with pytest.raises(Exception, match="client_paused"):
        judged(MONDAY + 14 * HOUR - 0.001)
    assert judged(MONDAY + 14 * HOUR) == key._replace(guards="on")


def test_what_the_items_of_one_key_hold_does_not_keep_another_from_being_judged(tables: Any) -> None:
    world = World(tables, now=MONDAY + 8 * HOUR)
    tables.put_item(TableName="keys", Item=to_item({"key_hash": overlay_key(KEY), "acts": {"a": {"act": "x"}}}))
    both = [request(8 * HOUR + n, key_id=key) for key in (KEY, "f" * 12) for n in range(3)]
    assert failures(world.consumer()(batch(*both, {"detail-type": "no event"}))) == ["6", "0", "1", "2"]
    assert [event.data["client"]["key_id"] for event in world.told] == ["f" * 12]


def test_what_is_dated_ahead_of_now_holds_nobody_until_then(tables: Any) -> None:
    world = World(tables, now=MONDAY)
    assert failures(world.consumer()(batch(*(request(900 * HOUR + n) for n in range(3))))) == []
    assert world.told == []


def test_a_user_is_held_as_a_key_is(tables: Any) -> None:
    user = "c" * 32
    world = World(tables, now=MONDAY + HOUR)
    world.consumer()(batch(request(HOUR, key_id=user)))
    assert "user cccc" in world.mails[0][1]
    held = Guards(lambda _: world.overlay(user), lambda: world.now)(ClientKey("plan", key_id=user, end_user="ada"))
    assert (held.guards, held.limits) == (CACHE_ONLY, None)
    assert ClientKey.from_context(held.to_context()).guards == CACHE_ONLY


def test_two_that_add_to_neighbours_at_the_same_time_miss_nothing(tables: Any) -> None:
    """Whichever writes last, one of them sees the whole window."""
    one, other = Table(tables, "costs"), Table(tables, "costs")
    early, late = (ulid_of_fact(MONDAY + at, str(at)) for at in (59, 61))
    seen: list[list[str]] = []

    class Between:
        """A client of DynamoDB during whose read the other one is done."""

        def __getattr__(self, name: str) -> Any:
            return getattr(tables, name)

        def query(self, **asked: Any) -> Any:
            seen.append(other.times("g", 1, [late], 2))
            return tables.query(**asked)

    between: Any = Between()
    seen.append(Table(between, "costs").times("g", 0, [early], 2))
    assert [early, late] in seen
    assert one.times("g", 0, [], 2) == [early, late]


def test_a_write_that_others_are_ahead_of_is_made_again_and_given_up_in_the_end(tables: Any) -> None:
    ids = [ulid_of_fact(MONDAY + n, str(n)) for n in range(20)]
    others = iter(ids[1:])

    class Contended:
        """A client of DynamoDB that somebody else is ahead of, so many times."""

        def __init__(self, times: int) -> None:
            self.times = times

        def __getattr__(self, name: str) -> Any:
            return getattr(tables, name)

        def put_item(self, **asked: Any) -> Any:
            if self.times:
                self.times -= 1
                Table(tables, "costs").times("g", 29875, [next(others)], 50)
            return tables.put_item(**asked)

    few: Any = Contended(3)
    assert Table(few, "costs", lambda _: None).times("g", 29875, [ids[0]], 50) == ids[:4]
    many: Any = Contended(99)
    with pytest.raises(ContendedError):
        Table(many, "costs", lambda _: None).times("g", 29875, [ids[19]], 50)


def test_the_table_and_the_memory_of_a_replay_are_the_same_evidence(tables: Any) -> None:
    numbers = random.Random(5)
    both: tuple[Evidence, Evidence] = Table(tables, "costs", lambda _: None), Memory()
    ids = [ulid_of_fact(MONDAY + at, str(at)) for at in range(0, 300, 7)]
    for _ in range(15):
        some = numbers.sample(ids, numbers.randint(1, 9))
        costs = {each: Decimal(numbers.choice(("1", "0.000001"))) if each < ids[9] else Decimal(2) for each in some}
        bucket, hour = numbers.randrange(3), numbers.randrange(3)
        new = {each: Decimal(1) for each in costs}
        assert both[0].times("g", bucket, some, 4) == both[1].times("g", bucket, some, 4)
        first = {each: new[each] for each in some if ids.index(each) % 3 == hour}
        assert both[0].spend(KEY, hour, first) == both[1].spend(KEY, hour, first)
        assert both[0].spent(KEY, 0, 2) == {n: cost for n, cost in both[1].spent(KEY, 0, 2).items() if cost}


def test_what_is_seen_of_an_event_is_what_the_ledger_keeps_of_it() -> None:
    envelope = request(HOUR, model="dear", status=401)
    [(_, entry)] = entries_of(read_event(envelope), PRICES)
    seen = seen_of(entry.key[1], from_item(to_item(entry.attributes)))
    assert seen == seen_of(entry.key[1], entry.attributes)
    assert seen is not None
    assert (seen.cost, seen.digest, seen.statuses, seen.key_id) == (Decimal(40), "0" * 16, frozenset({401}), KEY)
    assert datetime.fromtimestamp(seen.at, UTC).hour == 1
