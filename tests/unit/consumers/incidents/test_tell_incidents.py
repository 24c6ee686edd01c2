"""tell_incidents: one message when throttles begin, one when they are over, and what is read in them."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.dynamodb import to_item
from openai_proxy.events import topic
from openai_proxy.events.envelope import Event
from openai_proxy.throttles.advice import Throttled
from openai_proxy.throttles.incident import Incident, Kind, chat_message, event_of, subject_of, text_of
from tell_incidents.alarm import change_of
from tell_incidents.consumer import TellIncidents
from tell_incidents.store import Incidents

from tests.tables import Log

AT = 1_795_426_686.5
"""2026-11-23T09:38:06.500Z"""
NINE = 1_795_424_400.0
RPM = Throttled("ci", "key_rpm", "openai", "gpt-5", 900, 26550.0, "key", "aaaa", "minute", "60", "3f2a91c07be4")
TEAM = Throttled("lab", "team_budget", "openai", "gpt-5", 45, 0.0, "team", "red", "month", "500", "77aa", "red")
USER = replace(RPM, client="app", requests=12, subject="user", subject_id="b" * 32, limit="5")
TPM = replace(RPM, client="shop", requests=7, source="key_tpm", limit="100000", key_id="5f0c")
SERVER = Throttled("shop", "upstream", "gemini", "g", 340, 7140.0, "server", "gemini")


OWN_LIMITS = "they reach limits of their own, and the proxy refuses them with 429 before a server is asked."


def incident(*rows: Throttled, kind: Kind = "client", **changes: Any) -> Incident:
    facts: dict[str, Any] = {"stack": "openai-proxy", "since": AT, "until": None, "counted_from": NINE}
    return Incident(kind, **{**facts, **changes}, rows=rows)


# ------------------------------------------------------------------------------------------------------------- in words


def test_who_was_told_nothing_knows_what_since_when_whom_and_what_to_do() -> None:
    assert text_of(incident(RPM, TEAM, USER, TPM)).split("\n") == [
        f"Clients of the stack openai-proxy are throttled since 2026-11-23 09:38 UTC: {OWN_LIMITS}",
        "",
        (
            "964 requests were refused since 2026-11-23 09:00 UTC (counted by whole hours), of 4 clients: 912 by "
            "requests a minute, 45 by budget, 7 by tokens a minute. Hit most:"
        ),
        "  1. ci: 900 refused, most by 60 requests a minute of the key aaaa, model gpt-5",
        "  2. lab: 45 refused, most by 500 USD a month of the team red, model gpt-5",
        f"  3. app: 12 refused, most by 5 requests a minute of the user {'b' * 32}, model gpt-5",
        "",
        "Would raising limits help? Yes: no server that these clients ask has refused anything in this time.",
        "",
        "Do first: double the limit of ci:",
        "  openai-proxy keys update 3f2a91c07be4 --rpm 120",
        "",
        "See all: openai-proxy throttles --last 1h",
        "Runbook: docs/runbooks/client-throttles.md#what-to-look-at",
    ]


def test_a_server_that_refuses_is_named_as_the_bottleneck() -> None:
    told = text_of(incident(SERVER, RPM, kind="upstream"))
    assert "340 requests were refused since 2026-11-23 09:00 UTC (counted by whole hours), of one client." in told
    assert "Would raising limits help? No: gemini is the bottleneck." in told
    assert "Do first: give gemini a fallback or a pool in openai_servers.yaml" in told
    assert "keys update" not in told


def test_raising_helps_only_in_part_where_the_same_server_refuses_too() -> None:
    busy = replace(SERVER, server="openai", subject_id="openai")
    assert "Only in part: openai (340) refused requests too" in text_of(incident(RPM, busy))
    assert "help? Yes" in text_of(incident(RPM, SERVER)), "another server is no matter"


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        ([TEAM], "double the limit of lab:\n  openai-proxy teams update red --budget-month 1000"),
        ([USER, TPM], "double the limit of shop:\n  openai-proxy keys update 5f0c --tpm 200000"),
        ([USER], "The limit is that of the user's plan: raise it in identity.yaml and deploy."),
        ([], "look again: openai-proxy throttles --last 1h"),
    ],
)
def test_the_first_step_is_the_one_that_can_be_taken(rows: list[Throttled], first: str) -> None:
    assert f"Do first: {first}\n" in text_of(incident(*rows))


def test_another_stack_is_named_in_every_command() -> None:
    told = text_of(incident(RPM, stack="shop"))
    assert "keys update 3f2a91c07be4 --rpm 120 --stack-name shop" in told
    assert "throttles --last 1h --stack-name shop" in told


def test_the_end_says_how_long_and_how_much_it_was() -> None:
    over = incident(RPM, until=AT + 24 * 60)
    assert text_of(over).startswith(
        "It is over: in the stack openai-proxy limits of clients refused their requests from 2026-11-23 09:38 UTC to "
        "2026-11-23 10:02 UTC (24 minutes).\n\n900 requests were refused since 2026-11-23 09:00 UTC (counted by whole "
        "hours), of one client. Hit most:"
    )
    assert subject_of(over) == "[openai-proxy] Over: clients are throttled by their limits"
    assert (
        subject_of(incident(kind="upstream"))
        == "[openai-proxy] A server throttles the proxy since 2026-11-23 09:38 UTC"
    )


def test_a_server_that_refuses_is_told_whole() -> None:
    rows = [SERVER, replace(SERVER, client="app", requests=1, server="openai", subject_id="openai"), RPM]
    refuses = "a server refuses the proxy's requests with 429, and no retry or fallback helped."
    helps = (
        "No: gemini and openai are the bottlenecks. More of the provider, a fallback, a pool, or a slower client does."
    )
    assert text_of(incident(*rows, kind="upstream")).split("\n") == [
        f"Clients of the stack openai-proxy are throttled since 2026-11-23 09:38 UTC: {refuses}",
        "",
        "341 requests were refused since 2026-11-23 09:00 UTC (counted by whole hours), of 2 clients. Hit most:",
        "  1. shop: 340 refused, most by the limit of gemini, model g",
        "  2. app: 1 refused, most by the limit of openai, model g",
        "",
        f"Would raising limits help? {helps}",
        "",
        "Do first: give gemini a fallback or a pool in openai_servers.yaml and deploy, or ask its provider for more.",
        "",
        "See all: openai-proxy throttles --last 1h",
        "Runbook: docs/runbooks/upstream-throttles.md#what-to-look-at",
    ]


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 1), (89, 1), (91, 2), (100 * 3600, 6000)])
@pytest.mark.parametrize("kind", ["client", "upstream"])
def test_an_end_is_told_whole(kind: Kind, seconds: int, minutes: int) -> None:
    end = AT + seconds
    what = {"client": "limits of clients refused their requests", "upstream": "a server refused requests"}[kind]
    until = {0: "23 09:38", 89: "23 09:39", 91: "23 09:39", 100 * 3600: "27 13:38"}[seconds]
    asked = {"client": "Yes: no server that these clients ask has refused anything in this time."}
    bottleneck = "No: the server is the bottleneck. More of the provider, a fallback, a pool, or a slower client does."
    lasted = f"{minutes:,} minutes" if minutes > 1 else "one minute"
    first, *rest = text_of(incident(kind=kind, until=end)).split("\n")
    assert first == (
        f"It is over: in the stack openai-proxy {what} from 2026-11-23 09:38 UTC to 2026-11-{until} UTC ({lasted})."
    )
    assert rest == [
        "",
        "Whom it hits is not written down yet: the command below shows it in a minute.",
        "",
        f"Would raising limits have helped? {asked.get(kind, bottleneck)}",
        "",
        "See all: openai-proxy throttles --last 24h",
        f"Runbook: docs/runbooks/{kind}-throttles.md#what-to-look-at",
    ]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (
            replace(RPM, requests=1),
            "One request was refused since 2026-11-23 09:00 UTC (counted by whole hours), of one client. Hit most:",
        ),
        (replace(RPM, requests=1), "  1. ci: 1 refused, most by 60 requests a minute of the key aaaa, model gpt-5"),
        (replace(RPM, limit=""), "  1. ci: 900 refused, most by key_rpm of the key aaaa, model gpt-5"),
        (replace(RPM, subject="", model="-"), "  1. ci: 900 refused, most by 60 requests a minute"),
        (replace(RPM, model=""), "  1. ci: 900 refused, most by 60 requests a minute of the key aaaa"),
    ],
)
def test_who_is_hit_is_told_as_far_as_it_is_known(row: Throttled, line: str) -> None:
    assert line in text_of(incident(row)).split("\n")


def test_of_two_limits_of_a_client_the_one_that_hit_it_most_is_told_and_both_are_counted() -> None:
    other = replace(RPM, source="key_tpm", limit="7", requests=100)
    busy = [replace(SERVER, server=name, subject_id=name, requests=9 - n) for n, name in enumerate("abcd")]
    rows = [replace(RPM, server=name) for name in "abcd"]
    found = text_of(incident(other, *rows, *busy))
    assert "  1. ci: 3,700 refused, most by 60 requests a minute of the key aaaa, model gpt-5\n" in found
    assert "Only in part: a (9) and b (8) and c (7) refused requests too in this time, and would refuse more" in found


def test_a_chat_gets_the_same_in_its_own_form() -> None:
    assert chat_message('a\n"b"', "slack") == {"text": 'a\n"b"'}
    block = {"type": "TextBlock", "wrap": True, "fontType": "Monospace", "text": "a"}
    content = {"type": "AdaptiveCard", "version": "1.4", "body": [block]}
    card = {"contentType": "application/vnd.microsoft.card.adaptive", "content": content}
    assert chat_message("a", "teams") == {"type": "message", "attachments": [card]}


@pytest.mark.parametrize("until", [None, AT + 61.25])
def test_an_event_says_what_the_message_says_whole(until: float | None) -> None:
    found = incident(RPM, TEAM, SERVER, until=until)
    event = event_of(found, "slack")
    at = "2026-11-23T09:39:07.750Z" if until else "2026-11-23T09:38:06.500Z"
    envelope = ("IncidentReported", at, event.id, "openai-proxy")
    assert (event.detail_type, event.timestamp, event.request_id, event.client_id) == envelope
    assert event.data == {
        "kind": "client",
        "state": "ended" if until else "began",
        "since": "2026-11-23T09:38:06.500Z",
        "until": at if until else None,
        "requests": 945,
        "clients": [
            {
                "client_id": "ci",
                "requests": 900,
                "source": "key_rpm",
                "limit": "60 requests a minute",
                "command": "openai-proxy keys update 3f2a91c07be4 --rpm 120",
            },
            {
                "client_id": "lab",
                "requests": 45,
                "source": "team_budget",
                "limit": "500 USD a month",
                "command": "openai-proxy teams update red --budget-month 1000",
            },
        ],
        "text": text_of(found),
        "message": {"text": text_of(found)},
    }


@given(st.lists(st.sampled_from([RPM, TEAM, USER, TPM, SERVER]), max_size=6), st.sampled_from(["client", "upstream"]))
def test_whatever_is_refused_a_message_has_a_subject_that_sns_takes_and_counts_every_request(
    rows: list[Throttled], kind: Kind
) -> None:
    found = incident(*rows, kind=kind, stack="a" * 128)
    assert 0 < len(subject_of(found)) < 100
    assert found.refused == sum(row.requests for row in rows if row.is_of_a_server == (kind == "upstream"))
    assert len({row.client for row in found.worst}) == len(found.worst) <= 3
    assert len(text_of(found)) < 4000


# ------------------------------------------------------------------------------------------------------------ told once


@dataclass
class World:
    """The function, with everything in memory. `topic_fails` is how often the topic does not take a message."""

    rows: list[Throttled] = field(default_factory=lambda: [RPM])
    topic_fails: int = 0
    mails: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    events: list[Event[Any, Any]] = field(default_factory=list[Event[Any, Any]])
    known: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    hours: list[Sequence[str]] = field(default_factory=list[Sequence[str]])

    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        logger: Any = self.log
        topic, bus = Topic(self), Bus(self)
        self.function = TellIncidents(
            self, topic, bus, logger, stack="openai-proxy", form="slack", runbooks="https://wiki.example/runbooks"
        )

    def last(self, alarm: str) -> tuple[float, float] | None:
        return self.known.get(alarm)

    def remember(self, alarm: str, at: float, since: float) -> None:
        self.known[alarm] = at, since

    def throttles(self, hours: Sequence[str]) -> list[Throttled]:
        self.hours.append(hours)
        return self.rows

    def alarm(self, state: str, at: str = "2026-11-23T09:38:06.500+0000", name: str = "stack-client-throttles") -> None:
        message = {"AlarmName": name, "NewStateValue": state, "StateChangeTime": at}
        self.function({"Records": [{"Sns": {"Message": json.dumps(message)}}]})


@dataclass
class Topic:
    world: World

    def publish(self, subject: str, text: str) -> None:
        if self.world.topic_fails:
            self.world.topic_fails -= 1
            raise ConnectionError("away")
        self.world.mails.append((subject, text))


@dataclass
class Bus:
    world: World

    def publish(self, event: Event[Any, Any]) -> None:
        self.world.events.append(event)


LATER = "2026-11-23T10:02:06.500+0000"


def test_an_incident_is_told_once_and_its_end_once() -> None:
    world = World()
    for state, at in (("ALARM", None), ("ALARM", None), ("OK", LATER), ("OK", LATER)):
        world.alarm(state, *([at] if at else []))
    assert [subject for subject, _ in world.mails] == [
        "[openai-proxy] Clients are throttled by their limits since 2026-11-23 09:38 UTC",
        "[openai-proxy] Over: clients are throttled by their limits",
    ]
    assert [(event.data["state"], event.data["since"], event.data["until"]) for event in world.events] == [
        ("began", "2026-11-23T09:38:06.500Z", None),
        ("ended", "2026-11-23T09:38:06.500Z", "2026-11-23T10:02:06.500Z"),
    ]
    assert world.hours == [["2026-11-23T09"], ["2026-11-23T09", "2026-11-23T10"]]
    assert world.events[0].data["message"] == {"text": world.mails[0][1]}
    assert all(
        text.endswith("\nRunbook: https://wiki.example/runbooks/client-throttles.md#what-to-look-at")
        for _, text in world.mails
    )


def test_what_never_began_does_not_end_and_what_comes_late_is_not_told() -> None:
    world = World()
    world.alarm("OK")
    assert world.mails == []
    world.alarm("ALARM", LATER)
    world.alarm("OK", "2026-11-23T09:00:00.000+0000")
    assert len(world.mails) == 1


def test_an_incident_that_ends_in_the_moment_in_which_it_began_has_its_end() -> None:
    world = World()
    world.alarm("ALARM")
    world.alarm("OK")
    world.alarm("OK")
    assert [line["message"] for line in world.log.lines] == [
        "An incident was told",
        "An incident was told",
        "An incident was told already",
    ]


def test_what_is_not_told_comes_again() -> None:
    world = World(topic_fails=1)
    with pytest.raises(ConnectionError):
        world.alarm("ALARM")
    world.alarm("ALARM")
    assert len(world.mails) == 1


def test_incidents_of_two_kinds_are_two() -> None:
    world = World([SERVER, RPM])
    world.alarm("ALARM")
    world.alarm("ALARM", name="stack-upstream-throttles-rate")
    assert [event.data["kind"] for event in world.events] == ["client", "upstream"]
    assert world.events[0].id != world.events[1].id


@pytest.mark.parametrize(
    ("name", "state"), [("stack-service", "ALARM"), ("stack-client-throttles", "INSUFFICIENT_DATA")]
)
def test_other_alarms_and_other_states_are_not_told(name: str, state: str) -> None:
    world = World()
    world.alarm(state, name=name)
    assert (world.mails, world.events) == ([], [])


@pytest.mark.parametrize(
    "at", ["2026-11-23T09:38:06.500+0000", "2026-11-23T09:38:06.500Z", "2026-11-23T09:38:06.500+00:00"]
)
def test_a_moment_is_read_in_every_form(at: str) -> None:
    message = {"AlarmName": "a-client-throttles-rate", "NewStateValue": "ALARM", "StateChangeTime": at}
    change = change_of(json.dumps(message))
    assert change is not None
    assert change.at == AT


@pytest.mark.parametrize("message", ["", "[]", "{}", '{"AlarmName": 1}', "null", "1", '"AlarmName"'])
def test_what_is_no_message_of_an_alarm_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        change_of(message)


def test_the_same_beginning_has_the_same_id() -> None:
    assert event_of(incident(RPM), "slack").id == event_of(incident(TPM), "teams").id
    assert event_of(incident(RPM), "slack").id != event_of(incident(RPM, until=AT + 1), "slack").id


# ------------------------------------------------------------------------------------------------------- read and kept


@pytest.mark.parametrize(
    ("began", "at", "hours"),
    [
        ("09:14:59", "09:14:59", ["08", "09"]),
        ("09:15:00", "09:15:00", ["09"]),
        ("09:15:00", "09:59:59", ["09"]),
        ("09:15:00", "10:00:00", ["09", "10"]),
        ("09:15:00", "11:30:00", ["09", "10", "11"]),
    ],
)
def test_what_is_counted_reaches_a_quarter_of_an_hour_before_the_beginning(
    began: str, at: str, hours: list[str]
) -> None:
    world = World()
    world.alarm("ALARM", f"2026-11-23T{began}.000+0000")
    if at != began:
        world.alarm("OK", f"2026-11-23T{at}.000+0000")
    assert world.hours[-1] == [f"2026-11-23T{hour}" for hour in hours]
    assert f"refused since 2026-11-23 {hours[0]}:00 UTC" in world.mails[-1][1]


@pytest.mark.parametrize(("days", "hours"), [(1, 25), (3, 25)])
def test_of_a_long_incident_the_last_day_is_counted(days: int, hours: int) -> None:
    world = World()
    world.alarm("ALARM")
    world.alarm("OK", f"2026-11-{23 + days}T09:38:06.500+0000")
    assert (len(world.hours[-1]), world.hours[-1][-1]) == (hours, f"2026-11-{23 + days}T09")


def test_the_log_says_what_was_told_and_what_was_not() -> None:
    world = World([RPM, SERVER])
    name = {"level": "info", "alarm": "stack-client-throttles"}
    for state, at in (("ALARM", []), ("ALARM", [LATER]), ("OK", [LATER])):
        world.alarm(state, *at)
    assert world.log.lines == [
        {**name, "message": "An incident was told", "state": "began", "requests": 900},
        {**name, "message": "An incident was told already"},
        {**name, "message": "An incident was told", "state": "ended", "requests": 900},
    ]
    assert world.known == {"stack-client-throttles": (AT + 24 * 60, 0.0)}


@dataclass
class Tables:
    """The two tables, as much of them as is asked for: queries have pages of one item. With `is_odd` they answer {}."""

    is_odd = False

    items: dict[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any])
    asked: list[str] = field(default_factory=list[str])

    def get_item(self, *, TableName: str, Key: Any, ConsistentRead: bool, **more: Any) -> Any:  # noqa: N803
        assert ConsistentRead
        found = self.items.get((TableName, Key["id"]["S"]))
        return self._proven({"Item": found} if found else {}, more)

    def put_item(self, *, TableName: str, Item: Any, **more: Any) -> Any:  # noqa: N803 - boto3's names
        self.items[TableName, Item["id"]["S"]] = Item
        return self._proven({}, more)

    def query(self, *, TableName: str, KeyConditionExpression: str, **more: Any) -> Any:  # noqa: N803
        assert (TableName, KeyConditionExpression) == ("costs", "pk = :pk")
        assert more.keys() <= {"ExpressionAttributeValues", "ExclusiveStartKey", "ReturnConsumedCapacity"}
        bucket = more["ExpressionAttributeValues"][":pk"]["S"]
        self.asked.append(bucket)
        rows = [
            item for (table, pk), items in self.items.items() if (table, pk) == (TableName, bucket) for item in items
        ]
        place = more.get("ExclusiveStartKey", 0)
        last = {"LastEvaluatedKey": place + 1} if place + 1 < len(rows) else {}
        return self._proven({"Items": rows[place : place + 1], **last}, more)

    def _proven(self, answer: Any, asked: Mapping[str, Any]) -> Any:
        is_asked = asked.get("ReturnConsumedCapacity") == "TOTAL"
        return {} if self.is_odd else {**answer, **({"ConsumedCapacity": {"TableName": "t"}} if is_asked else {})}


@pytest.mark.parametrize(("call", "asked"), [("last", ("a",)), ("remember", ("a", AT, AT)), ("throttles", (["08"],))])
def test_an_answer_that_dynamodb_has_not_given_is_none(call: str, asked: tuple[Any, ...]) -> None:
    """An empty one would pass for an alarm that nobody was told of, and its end would not be told."""
    tables: Any = Tables()
    store = Incidents(tables, "costs", "markers")
    getattr(store, call)(*asked)
    tables.is_odd = True
    with pytest.raises(NoAnswerError):
        getattr(store, call)(*asked)


@pytest.mark.parametrize("answer", [{}, {"MessageId": ""}, {"MessageId": None}])
def test_a_message_that_sns_has_not_taken_is_not_told(answer: Any) -> None:
    asked: list[Any] = []

    class Sns:
        def publish(self, **message: Any) -> Any:
            asked.append(message)
            return answer or {}

    with pytest.raises(NoAnswerError):
        topic.Topic(Sns(), "arn").publish("subject", "text")
    answer = {"MessageId": "1"}
    topic.Topic(Sns(), "arn").publish("subject", "text")
    assert asked == [{"TopicArn": "arn", "Subject": "subject", "Message": "text"}] * 2


def test_what_was_told_is_remembered_in_the_table() -> None:
    tables: Any = Tables()
    store = Incidents(tables, "costs", "markers")
    assert store.last("a") is None
    before = int(time.time())
    for at, since in ((AT, AT), (AT + 60, 0.0)):
        store.remember("a", at, since)
        assert store.last("a") == (at, since)
        assert store.last("b") is None
    [(name, item)] = tables.items.items()
    assert (name, item.keys()) == (("markers", "incident#a"), {"id", "changed_at", "since", "expires_at"})
    assert before <= int(item["expires_at"]["N"]) - 400 * 86400 <= time.time()


def test_all_rollups_of_the_hours_are_read() -> None:
    rollup = {"client_id": "ci", "source": "key_rpm", "server": "openai", "model": "gpt-5"}
    tables: Any = Tables({("costs", f"throttles#{hour}"): [] for hour in ("08", "09", "10")})
    for hour, counts in (("08", [1]), ("09", [2, 3, 4]), ("10", [5]), ("11", [6])):
        rows = [to_item({**rollup, "requests": number}) for number in counts]
        tables.items["costs", f"throttles#{hour}"] = rows
    found = Incidents(tables, "costs", "markers").throttles(["08", "09", "10"])
    assert [row.requests for row in found] == [1, 2, 3, 4, 5]
    assert found[0] == Throttled("ci", "key_rpm", "openai", "gpt-5", 1)
    assert tables.asked == [f"throttles#{hour}" for hour in ("08", "09", "09", "09", "10")]
