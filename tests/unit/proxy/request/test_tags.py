"""Tags of a request: a header with bounds, and what fits of `metadata`."""

from typing import Any, cast
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.errors import ClientError
from proxy.request.tags import HEADER, LONGEST, MOST_IN_HEADER, MOST_TAGS, header_tags, with_metadata

from tests.examples import examples

printable = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=LONGEST).filter(
    lambda text: text == text.strip() and len(text.encode("utf-16-le")) <= 2 * LONGEST
)
tags = st.dictionaries(printable.filter(bool), printable, max_size=MOST_IN_HEADER)


@given(asked=tags, blanks=st.sampled_from(["", " ", "\t"]))
def test_what_is_percent_encoded_arrives_as_it_was(asked: dict[str, str], blanks: str) -> None:
    pairs = [f"{quote(name, safe='')}{blanks}={blanks}{quote(value, safe='')}" for name, value in asked.items()]
    assert header_tags(f"{blanks},".join(pairs)) == asked


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", {}),
        (" , ,", {}),
        ("feature=search, tenant=acme", {"feature": "search", "tenant": "acme"}),
        ("feature=search,,tenant=acme,", {"feature": "search", "tenant": "acme"}),
        ("tenant=", {"tenant": ""}),
        ("query=a=b; c", {"query": "a=b; c"}),
        ("off=100%, rate=5%25", {"off": "100%", "rate": "5%"}),
        ("city=K%C3%B6ln%2C%20Rhein", {"city": "Köln, Rhein"}),
        ("Team=a,team=b", {"Team": "a", "team": "b"}),
        ("n" * 64 + "=" + "ü" * 64, {"n" * 64: "ü" * 64}),
        ("mood=" + "💥" * 32, {"mood": "💥" * 32}),
        (",".join(f"t{place}=v" for place in range(8)), {f"t{place}": "v" for place in range(8)}),
    ],
)
def test_headers_that_are_taken(header: str, expected: dict[str, str]) -> None:
    assert header_tags(header) == expected


def no_pair(place: int) -> str:
    form = "write name=value, and a comma between two tags; percent-encode commas and what is not ASCII"
    return f"has no name and value in pair {place}: {form}"


def no_fit(place: int) -> str:
    return f"has a name or value that does not fit in pair {place}: up to 64 printable characters each"


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("search", no_pair(1)),
        ("feature=search, acme", no_pair(2)),
        (", ,feature=search,, acme", no_pair(2)),
        ("=acme", no_pair(1)),
        ("=", no_pair(1)),
        (" %20=acme", no_pair(1)),
        ("a=1, a=2", "names a tag twice, again in pair 2"),
        ("a=1, b=2, %61=1", "names a tag twice, again in pair 3"),
        ("n" * 65 + "=v", no_fit(1)),
        ("a=b, n=" + "v" * 65, no_fit(2)),
        ("n=" + "%C3%A9" * 65, no_fit(1)),
        ("n=" + "💥" * 33, no_fit(1)),
        ("n=" + "💥" * 32 + "v", no_fit(1)),
        ("n=a%0D%0Ax-evil: 1", no_fit(1)),
        ("n%00=a", no_fit(1)),
        ("n=%ff", no_fit(1)),
        ("%ff=n", no_fit(1)),
        ("n=a\u2028b", no_fit(1)),
        (",".join(f"t{place}=v" for place in range(9)), "has more than 8 tags"),
        ("a=b," * 5000, "names a tag twice, again in pair 2"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_repeated(header: str, says: str) -> None:
    with pytest.raises(ClientError) as refused:
        header_tags(header)
    error = refused.value
    assert (error.status, error.code, error.param) == (400, "invalid_tags", "x-tags")
    assert error.message == f"The header x-tags {says}."


def may_be_a_tag(text: Any) -> bool:
    return isinstance(text, str) and text.isprintable() and sum(1 + (each > "\uffff") for each in text) <= 64


WORDS = [
    *("", " ", "a\nb", *"abcdefgh", *("n" * size for size in (63, 64, 65))),
    *("💥" * wide + "n" * narrow for wide in (31, 32) for narrow in range(4)),
]
texts = st.sampled_from(WORDS)
some = st.dictionaries(st.one_of(texts, st.text(max_size=4)), st.one_of(texts, st.text(max_size=70), st.just(5)))
few = st.dictionaries(st.sampled_from("abcdefgh"), st.just("first"))


@settings(max_examples=examples(50))
@given(
    first=few,
    metadata=st.one_of(some, st.none(), st.text(max_size=2), st.lists(texts, max_size=2)),
    path=st.sampled_from(["/chat/completions", "/responses", "/messages", "/x"]),
)
def test_whatever_metadata_is_what_fits_of_it_is_taken(first: dict[str, str], metadata: Any, path: str) -> None:
    is_read = isinstance(metadata, dict) and path != "/messages"
    told = cast("dict[str, Any]", metadata if is_read else {})
    fitting = [name for name in told if name.strip() and may_be_a_tag(name) and may_be_a_tag(told[name])]
    new = [name for name in fitting if name not in first][: 16 - len(first)]
    expected = first | {name: told[name] for name in new}
    found = with_metadata(first, path, {"metadata": metadata})
    assert list(found.items()) == list(expected.items())


def test_without_metadata_there_are_the_tags_of_the_header() -> None:
    for fields in ({}, {"tags": {"c": "d"}}):
        assert with_metadata({"a": "b"}, "/chat/completions", fields) == {"a": "b"}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"feature": "search", "tenant": ""}, {"feature": "search", "tenant": ""}),
        ({"n": 1, "b": True, "o": {}, "l": [], "z": None, "ok": "v"}, {"ok": "v"}),
        ({"": "v", " ": "v", "a\nb": "v", "x": "a\r\nb", "n" * 65: "v", "y": "v" * 65, "ok": "v"}, {"ok": "v"}),
        ({f"m{place}": "v" for place in range(17)}, {f"m{place}": "v" for place in range(16)}),
        (["feature=search"], {}),
        ("feature=search", {}),
        (None, {}),
    ],
)
def test_metadata_that_does_not_fit_is_left_out(metadata: Any, expected: dict[str, str]) -> None:
    assert with_metadata({}, "/responses", {"metadata": metadata}) == expected


def test_the_header_comes_before_metadata() -> None:
    header = {"feature": "search", **{f"h{place}": "v" for place in range(7)}}
    metadata = {"feature": "other", **{f"m{place}": "v" for place in range(15)}}
    found = with_metadata(header, "/chat/completions", {"metadata": metadata})
    assert found == header | {f"m{place}": "v" for place in range(8)}


def test_of_anthropics_messages_metadata_is_no_tag() -> None:
    body = {"metadata": {"user_id": "me"}}
    assert with_metadata({"a": "b"}, "/messages", body) == {"a": "b"}
    assert with_metadata({}, "/messages/count", body) == {"user_id": "me"}


def test_the_bounds_are_those_that_the_documents_promise() -> None:
    assert (HEADER, MOST_IN_HEADER, MOST_TAGS, LONGEST) == ("x-tags", 8, 16, 64)
