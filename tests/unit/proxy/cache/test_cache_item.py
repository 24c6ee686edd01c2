"""An item that is read is given whole, and each bound of what is believed is met exactly."""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from openai_proxy.cache.answers import CLOCKS_APART, LARGEST_BODY, MOST_MARKS
from openai_proxy.dynamodb import to_attribute
from openai_proxy.events.ulid import first_ulid_of
from openai_proxy.usage import Usage
from proxy.cache.item import LONGEST_PACE, CachedAnswer, ItemHeader, Unusable, answer_of, header_of

NOW = 1_900_000_000
BODY = b"data: {}\n\ndata: [DONE]\n\n"
DIGEST, SHA256 = "d" * 64, hashlib.sha256(BODY).hexdigest()
PACKED = zlib.compress(BODY)
OBJECT = "captured/acme/01M83WG2WWY5ZPAS4GM821024C"
USAGE = Usage(3, 5, 1, source="reported", duration=1.5)
ITEM: dict[str, Any] = {
    "digest": {"S": DIGEST},
    "event_id": {"S": first_ulid_of(NOW - 10)},
    "stream": {"BOOL": True},
    "status_code": {"N": "200"},
    "content_type": {"S": "text/event-stream; charset=utf-8"},
    "encoding": {"S": "zlib"},
    "body": {"B": base64.b64encode(PACKED).decode()},
    "body_size": {"N": str(len(BODY))},
    "body_sha256": {"S": SHA256},
    "timing": {"S": "[[0,0],[10,250]]"},
    "usage": to_attribute(USAGE.to_event()),
    "cost": {"S": "0.25"},
    "currency": {"S": "USD"},
    "created_at": {"N": str(NOW - 10)},
    "expires_at": {"N": str(NOW + 50)},
}
MARKS = ((0, 0), (10, 250))
HEADER = ItemHeader(
    True, "text/event-stream; charset=utf-8", True, PACKED, "", len(BODY), SHA256, USAGE, 10, "0.25 USD", MARKS
)


def read(*, ttl: int = 60, max_age: float = 60.0, now: float = NOW, **changed: Any) -> ItemHeader:
    item: Mapping[str, Any] = {name: value for name, value in (ITEM | changed).items() if value is not None}
    return header_of(item, DIGEST, now, ttl, max_age)


def refused(**asked: Any) -> tuple[str, bool, bool]:
    with pytest.raises(Unusable) as found:
        read(**asked)
    return found.value.reason, found.value.is_damaged, found.value.may_be_renewed


UNREADABLE = ("unreadable", True, False)


def test_all_of_an_item_is_read() -> None:
    assert read() == HEADER
    assert answer_of(HEADER, PACKED) == CachedAnswer(
        True, "text/event-stream; charset=utf-8", BODY, USAGE, 10, "0.25 USD", MARKS
    )
    plain = read(
        stream={"BOOL": False}, content_type={"S": "Application/JSON"}, encoding={"S": "identity"}, timing=None
    )
    assert plain == HEADER._replace(is_stream=False, content_type="Application/JSON", is_compressed=False, timing=()), (
        "a body that is not compressed is taken as it is"
    )
    elsewhere = read(body=None, object={"S": OBJECT}, cost=None, currency=None)
    assert elsewhere == HEADER._replace(packed=None, object=OBJECT, saved=None)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"digest": {"S": "e" * 64}}, ("digest", True, False)),
        ({"now": NOW + 50}, ("expired", False, True)),
        ({"now": NOW + 50, "ttl": 1}, ("expired", False, True)),
        ({"ttl": 9}, ("expired", False, False)),
        ({"ttl": 9, "max_age": 9.0}, ("expired", False, False)),
        ({"max_age": 9.0}, ("too_old", False, False)),
        ({"max_age": 9.5}, ("too_old", False, False)),
    ],
)
def test_why_a_good_item_does_not_answer(asked: dict[str, Any], expected: tuple[str, bool, bool]) -> None:
    assert refused(**asked) == expected


@pytest.mark.parametrize(("now", "age"), [(NOW + 49.9, 59), (NOW + 0.9, 10), (NOW - 10, 0), (NOW - 310, 0)])
def test_an_answer_is_as_old_as_its_whole_seconds(now: float, age: int) -> None:
    assert read(now=now).age == age
    assert read(now=now, ttl=age, max_age=age).age == age


NUMBER = {"N": str(NOW + CLOCKS_APART)}
FUTURE = {"N": str(NOW + CLOCKS_APART + 1)}
BOUNDS: list[tuple[str, Any, Any]] = [
    ("created_at", NUMBER, FUTURE),
    ("event_id", {"S": first_ulid_of(NOW + CLOCKS_APART)}, {"S": first_ulid_of(NOW + CLOCKS_APART + 1)}),
    ("body_size", {"N": "1"}, {"N": "0"}),
    ("body_size", {"N": str(LARGEST_BODY)}, {"N": str(LARGEST_BODY + 1)}),
    ("body_size", {"N": "0" * 13 + "30"}, {"N": "0" * 14 + "30"}),
    ("body_size", {"N": "30"}, {"N": "-30"}),
    ("body_size", {"N": "30"}, {"N": "3e1"}),
    ("expires_at", {"N": "9" * 15}, {"N": "9" * 16}),
    ("status_code", {"N": "200"}, {"N": "201"}),
    ("content_type", {"S": "TEXT/event-stream\t ;x"}, {"S": "application/json"}),
    ("content_type", {"S": "text/event-stream;" + "x" * 200}, {"S": "text/event-stream;" + "x" * 201}),
    ("content_type", {"S": "text/event-stream;~"}, {"S": "text/event-stream;\x7f"}),
    ("encoding", {"S": "zlib"}, {"S": "ZLIB"}),
    ("body_sha256", {"S": "0" * 64}, {"S": "0" * 63}),
    ("body_sha256", {"S": "f" * 64}, {"S": "F" * 64}),
    ("cost", {"S": "9" * 15 + "." + "9" * 48}, {"S": "9" * 15 + "." + "9" * 49}),
    ("cost", {"S": "9" * 15}, {"S": "9" * 16}),
    ("cost", {"S": "0"}, {"S": "-1"}),
    ("currency", {"S": "EUR"}, {"S": "eur"}),
    ("currency", {"S": "EUR"}, {"S": "EURO"}),
    ("currency", {"S": "EUR"}, None),
    ("cost", {"S": "1"}, None),
    ("body", {"B": ""}, {"B": "***"}),
    ("body", {"B": "AA=="}, {"S": "AA=="}),
    ("body", {"B": ""}, None),
    ("stream", {"BOOL": True}, {"BOOL": 1}),
    ("stream", {"BOOL": True}, {"S": "true"}),
    ("digest", {"S": DIGEST}, {"S": DIGEST, "N": "1"}),
    ("digest", {"S": DIGEST}, {"S": [DIGEST]}),
    ("encoding", {"S": "identity"}, {"N": "identity"}),
    ("usage", to_attribute(USAGE.to_event()), to_attribute(USAGE._replace(output_tokens=-1).to_event())),
    *(
        ("timing", {"S": json.dumps(good)}, {"S": json.dumps(bad)})
        for good, bad in [
            ([[0, 0]], []),
            ([[0, 0]], {"0": 0}),
            ([[0, 0]], [[0, 1]]),
            ([[0, 0]], [[1, 0]]),
            ([[0, 0]], [[0, 0, 0]]),
            ([[0, 0]], [[0, False]]),
            ([[0, 0]], [[0, 0.0]]),
            ([[0, 0], [len(BODY) - 1, LONGEST_PACE]], [[0, 0], [len(BODY), LONGEST_PACE]]),
            ([[0, 0], [len(BODY) - 1, LONGEST_PACE]], [[0, 0], [len(BODY) - 1, LONGEST_PACE + 1]]),
            ([[0, 0], [5, 5], [5, 5]], [[0, 0], [5, 5], [4, 5]]),
            ([[0, 0], [5, 5], [5, 5]], [[0, 0], [5, 5], [5, 4]]),
            ([[0, 0]] * MOST_MARKS, [[0, 0]] * (MOST_MARKS + 1)),
        ]
    ),
]


@pytest.mark.parametrize("number", range(len(BOUNDS)))
def test_what_is_believed_ends_exactly_where_it_ends(number: int) -> None:
    name, good, bad = BOUNDS[number]
    unmarked: dict[str, Any] = {"timing": None}  # no marks of another body stand in the way
    read(**unmarked | {name: good})
    assert refused(**unmarked | {name: bad}) == UNREADABLE


@pytest.mark.parametrize("also", ["body", None])
def test_a_body_is_here_or_elsewhere(also: str | None) -> None:
    assert refused(body=ITEM["body"] if also else None, object={"S": OBJECT} if also else None) == UNREADABLE
    assert refused(body=None, object={"S": f"{OBJECT}0"}) == UNREADABLE


@pytest.mark.parametrize("missing", sorted(ITEM.keys() - {"timing", "cost", "currency"}))
def test_nothing_of_an_item_may_be_missing(missing: str) -> None:
    assert refused(**{missing: None}) == UNREADABLE


@pytest.mark.parametrize(
    ("packed", "size", "reason"),
    [
        (PACKED, len(BODY) - 1, "size"),
        (PACKED, len(BODY) + 1, "size"),
        (PACKED[:-1], len(BODY), "size"),
        (PACKED + b"x", len(BODY), "size"),
        (b"no zlib", len(BODY), "unreadable"),
        (zlib.compress(b"x" * len(BODY)), len(BODY), "sha256"),
    ],
)
def test_a_body_that_is_not_the_very_one_is_damaged(packed: bytes, size: int, reason: str) -> None:
    with pytest.raises(Unusable) as found:
        answer_of(HEADER._replace(size=size), packed)
    assert (found.value.reason, found.value.is_damaged, found.value.may_be_renewed) == (reason, True, False)


def test_a_body_that_is_not_compressed_is_compared_too() -> None:
    header = HEADER._replace(is_compressed=False)
    assert answer_of(header, BODY).body == BODY
    for packed, reason in ((BODY[:-1], "size"), (BODY[:-1] + b"x", "sha256")):
        with pytest.raises(Unusable, match=reason):
            answer_of(header, packed)
