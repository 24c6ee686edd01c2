"""What an answer must be to be kept: each bound met exactly, in numbers that stand here and not in the code."""

from collections.abc import Callable

import pytest
from openai_proxy.cache import answers
from openai_proxy.cache.answers import is_client_id, is_content_type, is_namespace, is_scope_of, is_text, model_name


def test_the_bounds_that_three_programs_keep_to() -> None:
    assert answers.LARGEST_BODY == 16_777_216
    assert answers.LONGEST_KEPT == 365 * 86400
    assert answers.MOST_MARKS == 256
    assert answers.CLOCKS_APART == 300
    assert answers.MEDIA_TYPES == {True: "text/event-stream", False: "application/json"}


@pytest.mark.parametrize("is_name", [is_client_id, is_namespace])
@pytest.mark.parametrize(
    ("name", "holds"),
    [("a", True), ("A_z.0-9", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b", False), ("a\n", False)],
)
def test_names(is_name: Callable[[str], bool], name: str, holds: bool) -> None:
    assert is_name(name) is holds


@pytest.mark.parametrize(
    ("scope", "holds"),
    [
        ("client:team-a", True),
        ("client:team-b", False),
        ("key-pool:team-b", True),
        ("server-pool:p", True),
        ("server-pool:" + "x" * 64, True),
        ("server-pool:" + "x" * 65, False),
        ("key-pool:", False),
        ("other:team-a", False),
        ("team-a", False),
    ],
)
def test_answers_are_made_for_oneself_or_for_a_pool(scope: str, holds: bool) -> None:
    assert is_scope_of(scope, "team-a") is holds


@pytest.mark.parametrize(
    ("value", "of_stream", "of_document"),
    [
        ("application/json", False, True),
        ("Application/JSON ; charset=utf-8", False, True),
        ("text/event-stream", True, False),
        ("text/event-stream;" + "x" * 238, True, False),
        ("text/event-stream;" + "x" * 239, False, False),
        ("application/json; a=\t", False, False),
        ("application/json; a=ü", False, False),
        ("application/jsonl", False, False),
        ("", False, False),
    ],
)
def test_the_content_type_says_the_form(value: str, of_stream: bool, of_document: bool) -> None:
    assert is_content_type(value, is_stream=True) is of_stream
    assert is_content_type(value, is_stream=False) is of_document


@pytest.mark.parametrize(
    ("name", "said"),
    [("m", "m"), ("x" * 256, "x" * 256), ("x" * 257, "x" * 256), ("", None), (None, None), ("\ud800", None)],
)
def test_the_name_of_a_model_is_cut_to_what_can_be_written(name: str | None, said: str | None) -> None:
    assert model_name(name) == said
    assert is_text(name or "") is (said is not None)
