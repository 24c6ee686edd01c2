"""Texts that are made for a pattern match it, whatever its form; and of the usual forms one is found."""

import re
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.demo.schemas.patterns import texts_for
from tests.examples import examples


@pytest.mark.parametrize(
    ("pattern", "shortest", "longest"),
    [
        ("^[A-Z]{2}-[0-9]{4}$", 0, 99),
        ("^@[a-zA-Z0-9_]+$", 0, 99),
        (r"^(foo|bar)\d{2,3}$", 6, 6),
        (r"^\d{3}-\d{2}-\d{4}$", 0, 99),
        ("^[a-z]+$", 12, 14),
        (r"^\+?[1-9]\d{1,14}$", 5, 9),
        ("^(?:[a-z]{2}(?:-[A-Z]{2})?)$", 5, 5),
        (r"[^a-z]", 1, 9),
        (r"^[\w.+-]+@[\w-]+\.[\w.-]+$", 6, 30),
        (r"^\S+\s\S+$", 0, 9),
        ("", 3, 9),
        (r"^[^\]]{3}$", 0, 9),
        (r"^v\d+\.\d+\.\d+$", 0, 9),
        ("abc", 5, 9),
        ("^(?P<side>a|b)*?c$", 4, 4),
        ("^x{0}$", 0, 0),
        ("^[\\u4e00-\\u9fa5]+$", 1, 4),
        (r"^\x41\u0042\t$", 0, 9),
        ("^0x[a-fA-F0-9]{40}$", 0, 99),
        (r"\bword\b", 0, 9),
        ("^a.c$", 0, 9),
        ("(?i)^abc|x$", 0, 9),
        ("^[]a]$", 0, 9),
    ],
)
def test_a_usual_pattern_has_a_text(pattern: str, shortest: int, longest: int) -> None:
    found = list(islice(texts_for(pattern, shortest, longest), 3))
    if pattern.startswith("(?i)"):  # it changes how the rest is read
        assert found == []
        return
    assert found
    assert all(re.search(pattern, text) and shortest <= len(text) <= longest for text in found)


@pytest.mark.parametrize("pattern", ["^(?!x)a$", r"^(a)\1$", "(?<=a)b", "^a{9999}$", "^a{3}$"])
def test_what_is_not_read_has_none(pattern: str) -> None:
    assert list(texts_for(pattern, 4, 3000)) == []


@pytest.mark.parametrize("pattern", ["(", "[", "a\\", r"^\p{L}+$", "*"])
def test_what_is_no_pattern_is_told(pattern: str) -> None:
    with pytest.raises(re.error):
        next(texts_for(pattern, 0, 9))


signs = st.sampled_from([*"abAZ09_-.^$|()[]{}?*+\\,:", "\\d", "\\w", "(?:", "[a-c]", "{2}", "{1,3}"])


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of patterns that a later Python may read in another way
@settings(max_examples=examples(60))
@given(st.lists(signs, max_size=12).map("".join), st.integers(0, 5), st.integers(0, 9))
def test_no_text_is_wrong(pattern: str, shortest: int, more: int) -> None:
    try:
        found = list(islice(texts_for(pattern, shortest, shortest + more), 3))
    except re.error:
        return
    assert all(re.search(pattern, text) and shortest <= len(text) <= shortest + more for text in found)
