"""Tags of a request: a header with bounds, and what fits of `metadata`."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.errors import ClientError
from proxy.request.tags import HEADER, LONGEST, MOST_IN_HEADER, MOST_TAGS, header_tags, with_metadata

printable = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=LONGEST).filter(
    lambda text: text == text.strip() and len(text.encode("utf-16-le")) <= 2 * LONGEST
)
tags = st.dictionaries(printable.filter(bool), printable, max_size=MOST_IN_HEADER)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=100),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=70), inner, max_size=20),
    max_leaves=25,
)


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


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("search", "pair 1"),
        ("feature=search, acme", "pair 2"),
        ("=acme", "pair 1"),
        (" %20=acme", "pair 1"),
        ("a=1, a=2", "twice"),
        ("a=1, %61=1", "twice"),
        ("n" * 65 + "=v", "64 printable"),
        ("n=" + "v" * 65, "64 printable"),
        ("n=" + "%C3%A9" * 65, "64 printable"),
        ("n=" + "💥" * 33, "64 printable"),
        ("n=a%0D%0Ax-evil: 1", "64 printable"),
        ("n%00=a", "64 printable"),
        ("n=%ff", "64 printable"),
        ("n=a\u2028b", "64 printable"),
        (",".join(f"t{place}=v" for place in range(9)), "more than 8"),
        ("a=b," * 5000, "twice"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_repeated(header: str, says: str) -> None:
    with pytest.raises(ClientError) as refused:
        header_tags(header)
    error = refused.value
    assert (error.status, error.code, error.param) == (400, "invalid_tags", "x-tags")
    assert says in error.message
    assert len(error.message) < 200
    assert error.message.isprintable()


@given(first=tags, metadata=anything, path=st.sampled_from(["/chat/completions", "/responses", "/messages", "/x"]))
def test_whatever_metadata_is_what_fits_of_it_is_taken(first: dict[str, str], metadata: Any, path: str) -> None:
    found = with_metadata(first, path, {"metadata": metadata})
    assert first.items() <= found.items()
    assert len(found) <= MOST_TAGS
    for name, value in found.items():
        assert name.strip()
        assert len(name) <= LONGEST
        assert len(value) <= LONGEST
        assert (name + value).isprintable()
        assert name in first or (path != "/messages" and metadata[name] == value)


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
