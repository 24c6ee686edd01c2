"""The key of a cached answer: every difference makes another, but for a short list; writing makes none."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from proxy.cache_key import WITHOUT_INFLUENCE, Identity, UnclearBodyError, canonical, keys_of

IDENTITY = Identity("client:a", "", "openai", "https://api.openai.com/v1", "/chat/completions", "", "")
NAMES = st.sampled_from(["model", "messages", "temperature", "seed", "tools", "store", "new_parameter", "Stream"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=5)
thorough = settings(deadline=None, max_examples=300)


def key(body: Any, identity: Identity = IDENTITY, model: str | None = None) -> str:
    return keys_of(identity, body if isinstance(body, bytes) else json.dumps(body).encode(), model).key


def written(value: Any) -> Any:
    """`value` so that Python tells 1 from True and 1.0, as JSON does."""
    return json.dumps(value, sort_keys=True)


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
@given(body=BODIES, name=st.sampled_from(sorted(WITHOUT_INFLUENCE)), value=VALUES)
def test_what_has_no_influence_does_not_count(body: dict[str, Any], name: str, value: Any) -> None:
    assert key({**body, name: value}) == key(body)


@thorough
@given(body=BODIES, seed=st.randoms(), indent=st.sampled_from([None, 1, 4]), ascii=st.booleans())
def test_order_blanks_and_escapes_do_not_count(
    body: dict[str, Any], seed: Any, indent: int | None, ascii: bool
) -> None:
    def shuffled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seed.shuffle(pairs)
        return dict(pairs)

    other = json.loads(json.dumps(body), object_pairs_hook=shuffled)
    text = json.dumps(other, indent=indent, ensure_ascii=ascii)
    assert key(text.encode()) == key(body)


@thorough
@given(
    name=st.sampled_from([field.name for field in fields(Identity)]),
    one=st.text(max_size=20),
    other=st.text(max_size=20),
)
def test_every_part_of_an_identity_counts(name: str, one: str, other: str) -> None:
    assume(one != other)
    assert key({}, replace(IDENTITY, **{name: one})) != key({}, replace(IDENTITY, **{name: other}))


@thorough
@given(parts=st.lists(st.text("ab", max_size=3), min_size=7, max_size=7), data=st.data())
def test_parts_do_not_run_into_each_other(parts: list[str], data: st.DataObject) -> None:
    others = data.draw(st.permutations(parts))
    assert (key({}, Identity(*parts)) == key({}, Identity(*others))) == (parts == list(others))


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
        ("[1e5]", '{"0": 1e5}'),
    ],
)
def test_numbers_count_as_they_are_written(one: str, other: str) -> None:
    assert key(f'{{"seed": {one}}}'.encode()) != key(f'{{"seed": {other}}}'.encode())


def test_the_model_is_the_one_that_is_asked_for() -> None:
    assert key({"model": "fast"}, model="real-fast") == key({"model": "real-fast"}) == key({}, model="real-fast")
    assert key({"model": "fast"}, model="real-fast") != key({"model": "fast"}, model="other")


def test_of_stream_options_all_but_the_wish_for_usage_counts() -> None:
    assert key({"stream_options": {"include_usage": True}}) == key({})
    assert key({"stream_options": {"include_obfuscation": False, "include_usage": True}}) == key(
        {"stream_options": {"include_obfuscation": False}}
    )
    assert key({"stream_options": {"include_obfuscation": False}}) != key({})
    assert key({"stream_options": 1}) != key({})


@pytest.mark.parametrize(
    "body", [b'{"a": 1, "a": 1}', b'{"a": [{"b": 1, "b": 2}]}', b'{"a":' * 3000 + b"1" + b"}" * 3000]
)
def test_a_body_that_could_be_read_in_two_ways_has_no_key(body: bytes) -> None:
    with pytest.raises(UnclearBodyError):
        keys_of(IDENTITY, body, None)


def test_key_and_digest_are_two_hashes_of_the_same() -> None:
    keys = keys_of(IDENTITY, b"{}", None)
    assert len({keys.key, keys.digest}) == 2
    assert all(len(each) == 64 and int(each, 16) for each in (keys.key, keys.digest))


def test_the_canonical_form_is_ascii_without_blanks() -> None:
    assert canonical('{"b": [0.10, "ü"], "a": {"d": 1e5, "c": null}}'.encode(), None) == (
        '{"a":{"c":null,"d":1e5},"b":[0.10,"\\u00fc"]}'
    )
