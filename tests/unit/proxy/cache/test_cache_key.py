"""The key of a cached answer: every difference makes another, but for a short list; writing makes none."""

import json
import random
import sys
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from openai_proxy.servers.options import IGNORABLE
from proxy.cache.key import (
    HEADERS_WITHOUT_INFLUENCE,
    Keys,
    SentRequest,
    Sharing,
    UnclearBodyError,
    canonical,
    keys_of,
)
from proxy.json_shapes import array_of, object_of
from proxy.request.parse import InferenceRequest

from tests.examples import examples

SHARING = Sharing("client:a", "", "openai")
SENT = SentRequest("POST", "https://api.openai.com/v1/chat/completions", {"content-type": "application/json"}, b"{}")
NAMES = st.sampled_from(["model", "messages", "temperature", "seed", "tools", "store", "new_parameter", "Stream"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=5)
SHUFFLERS = st.integers(0, 2**32).map(random.Random)
thorough = settings(deadline=None, max_examples=examples(40))


def key(body: Any, sharing: Sharing = SHARING, **sent: Any) -> str:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return keys_of(sharing, SENT._replace(body=content, **sent)).key


def written(value: Any) -> Any:
    """`value` so that Python tells 1 from True and 1.0, as JSON does; of the order only that of the fields is lost."""
    fields = object_of(value)
    return json.dumps({name: fields[name] for name in sorted(fields)} or value)


def test_the_keys_of_what_is_stored_are_the_same_tomorrow() -> None:
    """Whatever changes this makes every answer that was kept before a miss: then the version is another, too."""
    sharing = Sharing("client:a", "n", "openai", frozenset({"user", "metadata"}))
    sent = SentRequest("POST", "https://host/v1/x?y=1", {"b": "2", "a": "1", "traceparent": "t"}, b'{"n": 1, "m": [2]}')
    parts = ["2", "client:a", "n", "openai", "metadata,user", "POST", "https://host/v1/x?y=1", "2", "a:1", "b:2"]
    parts.append('{"m":[2],"n":1}')

    def hashed(kind: str) -> str:
        return sha256(b"".join(len(part).to_bytes(8, "big") + part.encode() for part in [kind, *parts])).hexdigest()

    assert keys_of(sharing, sent) == Keys(hashed("key"), hashed("digest"))


@thorough
@given(one=BODIES, other=BODIES)
def test_bodies_that_differ_have_keys_that_differ_and_equal_ones_equal_ones(one: Any, other: Any) -> None:
    assert (key(one) == key(other)) == (written(one) == written(other))


@thorough
@given(body=BODIES.filter(bool), data=st.data())
def test_any_change_of_one_field_is_another_key(body: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(body)))
    changed = data.draw(VALUES)
    assume(written(changed) != written(body[name]))
    without = {other: value for other, value in body.items() if other != name}
    assert len({key(body), key({**body, name: changed}), key(without)}) == 3


@thorough
@given(body=BODIES, name=st.sampled_from(["prompt_cache_key", "prompt_cache_retention"]), value=VALUES)
def test_what_has_no_influence_does_not_count(body: dict[str, Any], name: str, value: Any) -> None:
    assert key({**body, name: value}) == key(body)


@thorough
@given(body=BODIES, seed=SHUFFLERS, indent=st.sampled_from([None, 1, 4]), ascii=st.booleans())
def test_order_of_fields_blanks_and_escapes_do_not_count(
    body: dict[str, Any], seed: Any, indent: int | None, ascii: bool
) -> None:
    pairs = list(body.items())
    seed.shuffle(pairs)
    text = json.dumps(dict(pairs), indent=indent, ensure_ascii=ascii)
    assert key(text.encode()) == key(body)


def reordered(value: Any, choose: Any) -> Any:
    """`value` with the members of its objects and arrays in another order, or the same."""
    pairs = [(name, reordered(each, choose)) for name, each in object_of(value).items()]
    members = [reordered(each, choose) for each in array_of(value)]
    choose.shuffle(pairs)
    choose.shuffle(members)
    return dict(pairs) or members or value


@settings(deadline=None, max_examples=examples(40))
@given(schema=st.dictionaries(st.text(max_size=4), VALUES, min_size=2), choose=SHUFFLERS)
def test_order_below_the_fields_counts(schema: dict[str, Any], choose: Any) -> None:
    other = reordered(schema, choose)
    for name in ("response_format", "tools", "messages"):
        assert (key({name: [schema]}) == key({name: [other]})) == (json.dumps(schema) == json.dumps(other))


@thorough
@given(
    name=st.sampled_from(["scope", "namespace", "server"]),
    one=st.text(max_size=20),
    other=st.text(max_size=20),
)
def test_who_shares_and_whose_answer_it_is_counts(name: str, one: str, other: str) -> None:
    assume(one != other)
    assert key({}, SHARING._replace(**{name: one})) != key({}, SHARING._replace(**{name: other}))


@thorough
@given(name=st.sampled_from(["method", "url"]), one=st.text(max_size=20), other=st.text(max_size=20))
def test_where_it_is_sent_counts(name: str, one: str, other: str) -> None:
    assume(one != other)
    assert key({}, SHARING, **{name: one}) != key({}, SHARING, **{name: other})


def forwarded() -> list[str]:
    """The names of all headers that a server gets from a client, whatever the client sends."""

    class Everything(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            return True

        def __missing__(self, name: str) -> str:
            return "00-11111111111111111111111111111111-2222222222222222-01" if name == "traceparent" else "a=b"

        def get(self, name: str, _default: Any = None) -> Any:
            return self[name]

    return sorted(InferenceRequest("function_url", "POST", "/", "", Everything(), b"", None).forwarded_headers)


@pytest.mark.parametrize("name", forwarded())
def test_every_forwarded_header_is_in_the_key_or_cannot_matter(name: str) -> None:
    keys = {key({}, headers=headers) for headers in ({}, {name: ""}, {name: "a"}, {name: "b"})}
    assert len(keys) == (1 if name in HEADERS_WITHOUT_INFLUENCE else 4)


@thorough
@given(
    name=st.sampled_from(sorted(set(forwarded()) - HEADERS_WITHOUT_INFLUENCE.keys())),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
    data=st.data(),
)
def test_one_character_of_a_header_is_another_key(name: str, value: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(value)))
    more, removed = data.draw(st.text("aA ,;=", max_size=1)), data.draw(st.integers(0, 1))
    other = value[:place] + more + value[place + removed :]
    assert (key({}, headers={name: value}) == key({}, headers={name: other})) == (value == other)


def test_half_a_character_in_a_header_is_a_character() -> None:
    halves = [key({}, headers={"accept": half}) for half in ("", "?", "\ud83d", "\ude00", "\ud83d\ude00")]
    assert len(set(halves)) == len(halves)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "a": {
            "type": "object",
            "properties": {"x": {"enum": [1, 2]}, "y": {"anyOf": [{"type": "null"}, {"const": 0}]}},
        },
        "b": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]},
    },
    "required": ["a", "b"],
}


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there are two members that could change places, at every depth."""
    pairs = [*object_of(value).items(), *enumerate(array_of(value))]
    here = [path] if len(pairs) > 1 else []
    return here + [place for name, each in pairs for place in places_in(each, (*path, name))]


@pytest.mark.parametrize("place", places_in(SCHEMA), ids=str)
@pytest.mark.parametrize("name", ["response_format", "tools", "text", "functions", "extra"])
def test_two_members_of_a_schema_that_change_places_are_another_question(place: tuple[Any, ...], name: str) -> None:
    other: Any = json.loads(json.dumps(SCHEMA))
    holder: Any = other
    for step in place:
        holder = holder[step]
    if isinstance(holder, list):
        holder.reverse()
    else:
        pairs = list(holder.items())
        holder.clear()
        holder.update(reversed(pairs))
    bodies = [{name: {"json_schema": {"schema": schema}}} for schema in (SCHEMA, other)]
    assert key(bodies[0]) != key(bodies[1])


def test_what_cannot_matter_is_forwarded_and_has_its_reason() -> None:
    assert HEADERS_WITHOUT_INFLUENCE.keys() <= set(forwarded())
    assert all(HEADERS_WITHOUT_INFLUENCE.values())


@thorough
@given(parts=st.lists(st.text("ab:", max_size=3), min_size=7, max_size=7), data=st.data())
def test_parts_do_not_run_into_each_other(parts: list[str], data: st.DataObject) -> None:
    def of(scope: str, namespace: str, server: str, method: str, url: str, name: str, value: str) -> str:
        return key({}, Sharing(scope, namespace, server), method=method, url=url, headers={f"x-{name}": value})

    others = data.draw(st.permutations(parts))
    assume(":" not in parts[5] + others[5])  # a header's name has none
    assert (of(*parts) == of(*others)) == (parts == list(others))


@pytest.mark.parametrize("name", IGNORABLE)
def test_who_asks_counts_unless_the_servers_owner_takes_it_out(name: str) -> None:
    assert len({key({}), key({name: "a"}), key({name: "b"})}) == 3
    without = SHARING._replace(ignored=frozenset({name}))
    assert key({name: "a"}, without) == key({name: "b"}, without) == key({}, without)
    assert key({}, without) != key({}), "an answer that was made with it is none for a server that it counts for"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.1", "0.10000000000000000555"),
        ("1e400", "1e500"),
        ("1", "1.0"),
        ("1", '"1"'),
        ("0.10", '"0.10"'),
        ("100000000000000000000000001", "100000000000000000000000002"),
        ("null", "false"),
        ("0", "-0"),
        ("0.0", "-0.0"),
        ("-0", "-0.0"),
        ("[0]", "[-0]"),
        ("[1e5]", '{"0": 1e5}'),
    ],
)
def test_numbers_count_as_they_are_written(one: str, other: str) -> None:
    assert key(f'{{"seed": {one}}}'.encode()) != key(f'{{"seed": {other}}}'.encode())


def test_of_stream_options_all_but_the_wish_for_usage_counts() -> None:
    assert key({"stream_options": {"include_usage": True}}) == key({})
    assert key({"stream_options": {"include_obfuscation": False, "include_usage": True}}) == key(
        {"stream_options": {"include_obfuscation": False}}
    )
    assert key({"stream_options": {"include_obfuscation": False}}) != key({})
    assert key({"stream_options": 1}) != key({})
    assert key({"stream_options": {"include_usage": "yes"}}) != key({})


def test_the_form_does_not_count_where_it_is_clear() -> None:
    assert key({"stream": True}) == key({"stream": False}) == key({"stream": None}) == key({})
    assert len({key({"stream": value}) for value in (True, "true", 1, 1.0)}) == 4


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": [{"b": 1, "b": 2}]}',
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a": ' + b"1" * 5000 + b"}",
        '{"a": "ü"}'.encode("latin-1"),
        '{"a": 1}'.encode("utf-16"),
        b"[]",
        b"",
    ],
)
def test_a_body_that_could_be_read_in_two_ways_has_no_key(body: bytes) -> None:
    with pytest.raises(UnclearBodyError):
        keys_of(SHARING, SENT._replace(body=body))


def test_key_and_digest_are_two_hashes_of_the_same() -> None:
    keys = keys_of(SHARING, SENT)
    assert len({keys.key, keys.digest}) == 2
    assert all(len(each) == 64 and int(each, 16) for each in (keys.key, keys.digest))


def test_the_canonical_form_is_ascii_without_blanks() -> None:
    assert canonical('{"b": [0.10, "ü", -0], "a": {"d": 1e5, "c": null}}'.encode()) == (
        '{"a":{"d":1e5,"c":null},"b":[0.10,"\\u00fc",-0]}'
    )


def own_calls(body: bytes) -> int:
    """How many functions of the module run for the form of a body."""
    calls, own = 0, canonical.__code__.co_filename

    def count(frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename == own

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        canonical(body)
    finally:
        sys.setprofile(before)
    return calls


def test_one_more_text_in_a_body_takes_no_more_work_unless_a_number_must_be_kept_as_it_is() -> None:
    def body(texts: int, number: str) -> bytes:
        return b'{"seed": %s, "stop": %s}' % (number.encode(), json.dumps(["x"] * texts).encode())

    assert own_calls(body(1, "0.5")) == own_calls(body(100, "0.5"))
    assert own_calls(body(1, "0.50")) + 99 == own_calls(body(100, "0.50"))
