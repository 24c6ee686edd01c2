"""Items of the response cache that somebody damaged: whatever is wrong with one, it is a miss or the right answer."""

import base64
import copy
import hashlib
import json
import zlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai_proxy.events.envelope import Event
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.ulid import first_ulid_of, new_ulid
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.usage import Usage
from proxy.cache.item import CachedAnswer, Unusable, answer_of, header_of
from proxy.cache.replay import Replay
from proxy.json_shapes import object_of
from store_response.cached_response import cached_response_of
from store_response.item import item_of

from tests.examples import examples

LONGEST_PACE = 900_000

NOW = 1_795_426_900
DIGEST = "d" * 64
BODY = b"".join(b'data: {"n": %d}\n\n' % number for number in range(6)) + b"data: [DONE]\n\n"
PRICES = parse_price_book("servers:\n  s:\n    models:\n      m: {input: 1, output: 2}\n")
USAGE = Usage(input_tokens=9, output_tokens=3, source="reported")


def item(**response: Any) -> dict[str, Any]:
    """A good item, as DynamoDB's JSON has it."""
    answer: dict[str, Any] = {
        "status_code": 200,
        "content_type": "text/event-stream; charset=utf-8",
        "model": "m",
        "encoding": "zlib",
        "body": base64.b64encode(zlib.compress(BODY)).decode(),
        "body_size": len(BODY),
        "body_sha256": hashlib.sha256(BODY).hexdigest(),
        "timing": [[0, 0], [15, 40], [30, 900]],
    }
    data: dict[str, Any] = {
        "cache_key": "c" * 64,
        "digest": DIGEST,
        "scope": "client:a",
        "server": {"name": "s"},
        "request": {"path": "/chat/completions", "model": "m", "stream": True},
        "response": {name: value for name, value in (answer | response).items() if value is not None},
        "usage": USAGE.to_event(),
        "created_at": NOW - 10,
        "expires_at": NOW + 50,
    }
    event: Event[Any, Any] = Event("ResponseCaptured", new_ulid(NOW - 10), "2026-11-22T00:00:00Z", "r", "a", data)
    stored = item_of(cached_response_of(event, PRICES))
    if "body" in stored:
        stored["body"] = {"B": base64.b64encode(stored["body"]["B"]).decode()}
    return json.loads(json.dumps(stored))


GOOD = item()


def read(found: dict[str, Any], deadline: float = NOW + 60.0) -> tuple[CachedAnswer, bytes, float]:
    """What is served of an item with the original pacing, and for how long that sleeps. Raises Unusable."""
    header = header_of(found, DIGEST, NOW, ttl=3600, max_age=float("inf"))
    assert header.packed is not None
    stored = answer_of(header, header.packed)
    slept = [0.0]

    def sleep(seconds: float) -> None:
        slept[0] += seconds

    replay = Replay(stored, True, deadline, sleep, lambda: NOW + slept[0])
    return stored, b"".join(replay.pieces()), slept[0]


def test_a_good_item_is_served_as_it_came() -> None:
    stored, body, slept = read(GOOD)

    assert body == BODY
    assert slept == pytest.approx(0.9)
    assert (stored.usage, stored.age, stored.saved) == (USAGE, 10, "0.000015 USD")


_NUMBERS: st.SearchStrategy[Any] = st.one_of(
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400).map(str),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "1E400", "-1", "1_0", "٣", "", " 1", "0x10", "1.5"]),
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | _NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_TYPES = ["S", "N", "B", "BOOL", "NULL", "M", "L", "SS"]
_ATTRIBUTES: st.SearchStrategy[Any] = st.one_of(
    _VALUES,
    st.dictionaries(st.sampled_from(_TYPES), _VALUES, max_size=2),
    st.fixed_dictionaries({"N": _NUMBERS}),
    st.fixed_dictionaries({"S": st.text()}),
    st.fixed_dictionaries({"BOOL": st.booleans()}),
)
_MARKS = st.lists(
    st.one_of(
        st.tuples(st.integers(-2, 120), st.integers(-2, 10**7)),
        st.tuples(st.sampled_from([0, 1.5, True, None, "0", [0]]), st.sampled_from([0, float("inf"), float("nan")])),
        _VALUES,
    ),
    max_size=5,
)


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A good item with one attribute gone, exchanged or added, or one character of one value changed."""
    found: dict[str, Any] = copy.deepcopy(GOOD)
    name = draw(st.sampled_from(sorted(found)))
    kind = draw(st.sampled_from(["gone", "exchanged", "added", "character", "usage", "timing", "byte"]))
    if kind == "byte":
        return with_another_byte(found, draw(st.integers(0, 10**6)), draw(st.integers(0, 255)))
    if kind == "gone":
        del found[name]
    elif kind == "exchanged":
        found[name] = draw(_ATTRIBUTES)
    elif kind == "added":
        found[draw(st.text(max_size=5) | st.sampled_from(["object", "cost"]))] = draw(_ATTRIBUTES)
    elif kind == "usage":
        usage = found["usage"]["M"]
        usage[draw(st.sampled_from(sorted(usage)))] = draw(_ATTRIBUTES)
    elif kind == "timing":
        found["timing"] = {"S": json.dumps(draw(_MARKS))}
    else:
        [(form, value)] = found[name].items()
        if isinstance(value, str):
            place = draw(st.integers(0, len(value)))
            found[name] = {form: value[:place] + draw(st.text(max_size=1)) + value[place + draw(st.integers(0, 1)) :]}
    return found


def with_another_byte(found: dict[str, Any], place: int, byte: int) -> dict[str, Any]:
    """The item with one byte of what DynamoDB sends changed, names of attributes included, where that still is JSON."""
    sent = bytearray(json.dumps(found).encode())
    sent[place % len(sent)] = byte
    try:
        changed = json.loads(sent)
    except ValueError:
        return {}
    return object_of(changed)


@settings(max_examples=examples(80), deadline=None, derandomize=True)
@given(damaged())
def test_a_damaged_item_is_a_miss_or_the_right_answer(found: dict[str, Any]) -> None:
    try:
        stored, body, slept = read(found)
    except Unusable:
        return
    assert body == BODY
    assert slept <= 60
    assert stored.age >= 0
    assert Usage.from_event(stored.usage.to_event()) == stored.usage
    headers = stored.content_type + (stored.saved or "")
    assert headers.isascii()
    assert headers.isprintable()


CASES: list[tuple[str, dict[str, Any]]] = [
    ("timing of infinity", {"timing": {"S": "[[0,0],[15,Infinity]]"}}),
    ("timing of no number", {"timing": {"S": "[[0,0],[15,NaN]]"}}),
    ("timing that begins later", {"timing": {"S": "[[3,0],[15,40]]"}}),
    ("timing that begins late", {"timing": {"S": "[[0,7],[15,40]]"}}),
    ("timing backwards", {"timing": {"S": "[[0,0],[15,40],[16,39]]"}}),
    ("a negative time", {"timing": {"S": "[[0,0],[15,-1]]"}}),
    ("a time beyond every function's", {"timing": {"S": f"[[0,0],[15,{LONGEST_PACE + 1}]]"}}),
    ("no marks", {"timing": {"S": "[]"}}),
    ("marks of three", {"timing": {"S": "[[0,0,0]]"}}),
    ("marks in an object", {"timing": {"S": "{}"}}),
    ("too many marks", {"timing": {"S": json.dumps([[0, 0]] * 300)}}),
    ("marks without end", {"timing": {"S": "[" * 100_000}}),
    ("a type that is not ASCII", {"content_type": {"S": "text/event-stream; charset=ü"}}),
    ("a type with digits of another script", {"cost": {"S": "٣"}}),
    ("another type that begins alike", {"content_type": {"S": "text/event-streams"}}),
    ("a cost with a line", {"cost": {"S": "1\n"}}),
    ("a currency in small letters", {"currency": {"S": "usd"}}),
    ("a cost without a currency", {"currency": None}),
    ("usage beyond counting", {"usage": {"M": GOOD["usage"]["M"] | {"input_tokens": {"N": "1" + "0" * 30}}}}),
    ("a negative count", {"usage": {"M": GOOD["usage"]["M"] | {"input_tokens": {"N": "-1"}}}}),
    ("a flag as text", {"stream": {"S": "true"}}),
    ("a number as text", {"body_size": {"S": str(len(BODY))}}),
    ("two types at once", {"digest": {"S": DIGEST, "N": "1"}}),
    ("without an id", {"event_id": None}),
    ("an id that is none", {"event_id": {"S": "zzz"}}),
    ("an id of tomorrow", {"event_id": {"S": first_ulid_of(NOW + 86400)}}),
    ("made tomorrow", {"created_at": {"N": str(NOW + 86400)}}),
]


@pytest.mark.parametrize("change", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_what_could_not_be_served_is_unreadable(change: dict[str, Any]) -> None:
    found = {name: value for name, value in (GOOD | change).items() if value is not None}

    with pytest.raises(Unusable) as caught:
        read(found)

    assert (caught.value.reason, caught.value.is_damaged) == ("unreadable", True)


def with_body(body: bytes, size: int, packing: str, sha256: bytes = BODY) -> dict[str, Any]:
    """A good item with another body, of which it says that it is so large, and has the hash of `sha256`."""
    packed = body if packing == "plain" else zlib.compress(body)
    sent = packed + b"x" if packing == "rest" else packed[:-1] if packing == "cut" else packed
    encoded = base64.b64encode(sent).decode()
    return GOOD | {
        "body": {"B": encoded},
        "encoding": {"S": "identity" if packing == "plain" else "zlib"},
        "body_size": {"N": str(size)},
        "body_sha256": {"S": hashlib.sha256(sha256).hexdigest()},
    }


_BODIES = st.sampled_from([BODY, BODY[:-1], BODY + b"\n", b"x" + BODY[1:], BODY[::-1], b"", BODY * 2]) | st.binary()


@settings(max_examples=examples(40), deadline=None)
@given(_BODIES, st.sampled_from([len(BODY) + more for more in (-2, -1, 0, 1, 2, len(BODY))]), st.data())
@example(BODY, len(BODY) - 1, None)
def test_only_the_very_bytes_of_the_very_size_are_served(body: bytes, size: int, data: st.DataObject | None) -> None:
    packing = data.draw(st.sampled_from(["plain", "packed", "rest", "cut"])) if data else "packed"
    found = with_body(body, size, packing)
    if body == BODY and size == len(BODY) and packing in ("plain", "packed"):
        assert read(found)[1] == BODY
        return
    with pytest.raises(Unusable) as caught:
        read(found)
    assert caught.value.is_damaged


@pytest.mark.parametrize("packing", ["plain", "packed"])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_size_that_is_wrong_is_seen_although_the_bytes_are_right(packing: str, more: int) -> None:
    with pytest.raises(Unusable) as caught:
        read(with_body(BODY, len(BODY) + more, packing))

    assert (caught.value.reason, caught.value.is_damaged) == ("size", True)


@pytest.mark.parametrize("packing", ["rest", "cut"])
def test_what_is_packed_ends_where_its_body_does(packing: str) -> None:
    with pytest.raises(Unusable) as caught:
        read(with_body(BODY, len(BODY), packing))

    assert (caught.value.reason, caught.value.is_damaged) == ("size", True)


def test_bytes_that_are_others_are_seen_although_the_size_is_right() -> None:
    with pytest.raises(Unusable) as caught:
        read(with_body(BODY[::-1], len(BODY), "packed"))

    assert (caught.value.reason, caught.value.is_damaged) == ("sha256", True)


@pytest.mark.parametrize(
    "change",
    [
        {"body_size": len(BODY) - 1},
        {"body_size": len(BODY) + 1},
        {"body_size": 0},
        {"body_sha256": hashlib.sha256(BODY + b"x").hexdigest()},
        {"body": base64.b64encode(zlib.compress(BODY[:-1])).decode()},
        {"body": base64.b64encode(zlib.compress(BODY + b"x")).decode()},
        {"body": base64.b64encode(zlib.compress(BODY) + b"x").decode()},
        {"body": base64.b64encode(zlib.compress(BODY)[:-1]).decode()},
        {"body": base64.b64encode(BODY).decode()},
        {"encoding": "identity"},
    ],
    ids=["shorter", "longer", "nothing", "hash", "body cut", "body and more", "a rest", "cut", "not packed", "packed"],
)
def test_an_answer_of_a_wrong_size_is_not_stored(change: dict[str, Any]) -> None:
    assert item()
    with pytest.raises(MalformedEventError):
        item(**change)


@pytest.mark.parametrize(
    ("ttl", "max_age", "reason"), [(9, 3600.0, "expired"), (3600, 9.0, "too_old"), (9, 9.0, "expired")]
)
def test_who_wants_a_younger_one_than_others_learns_why(ttl: int, max_age: float, reason: str) -> None:
    assert header_of(GOOD, DIGEST, NOW, ttl=10, max_age=10.0).age == 10

    with pytest.raises(Unusable) as caught:
        header_of(GOOD, DIGEST, NOW, ttl, max_age)

    assert (caught.value.reason, caught.value.may_be_renewed, caught.value.is_damaged) == (reason, False, False)


def test_what_is_over_for_all_may_be_renewed() -> None:
    with pytest.raises(Unusable) as caught:
        header_of(GOOD, DIGEST, NOW + 50, ttl=3600, max_age=float("inf"))

    assert (caught.value.reason, caught.value.may_be_renewed) == ("expired", True)


def test_a_pace_that_would_not_end_in_time_is_not_kept() -> None:
    _, body, slept = read(GOOD | {"timing": {"S": "[[0,0],[15,59999],[30,60001]]"}})

    assert (body, slept) == (BODY, 0.0)
