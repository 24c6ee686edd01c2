"""Usage as servers write it: one law for every convention, and one bound for every number."""

import itertools
import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.usage import MOST_COST, MOST_TOKENS, Usage, UsageSource
from proxy.json_shapes import loads_or_none, moment_of, text_of
from proxy.metering.cost import with_cost_of_header
from proxy.metering.usage import told_in, usage_of


class Truth(NamedTuple):
    """What was used, each token in one class."""

    fresh: int
    cached: int
    written: int
    audio: int
    answer: int
    thoughts: int

    @property
    def usage(self) -> Usage:
        return Usage(
            input_tokens=self.fresh + self.cached + self.written + self.audio,
            output_tokens=self.answer + self.thoughts,
            cache_read_input_tokens=self.cached,
            cache_creation_input_tokens=self.written,
            reasoning_output_tokens=self.thoughts,
            source="reported",
            input_audio_tokens=self.audio,
        )


Report = dict[str, Any]


def openai(t: Truth) -> Report:
    prompt, completion = t.fresh + t.cached + t.written + t.audio, t.answer + t.thoughts
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": t.cached,
            "cache_write_tokens": t.written,
            "audio_tokens": t.audio,
        },
        "completion_tokens_details": {"reasoning_tokens": t.thoughts},
    }


def responses(t: Truth) -> Report:
    report = openai(t)
    return {
        "input_tokens": report["prompt_tokens"],
        "output_tokens": report["completion_tokens"],
        "total_tokens": report["total_tokens"],
        "input_tokens_details": report["prompt_tokens_details"],
        "output_tokens_details": report["completion_tokens_details"],
    }


def litellm(t: Truth) -> Report:
    return openai(t) | {"cache_read_input_tokens": t.cached, "cache_creation_input_tokens": t.written}


def deepseek(t: Truth) -> Report:
    t = t._replace(written=0, audio=0)
    report = openai(t)
    del report["prompt_tokens_details"]
    return report | {"prompt_cache_hit_tokens": t.cached, "prompt_cache_miss_tokens": t.fresh}


def anthropic_with_total(t: Truth) -> Report:
    """Caches beside the prompt and in the total."""
    t = t._replace(audio=0)
    return {
        "prompt_tokens": t.fresh,
        "completion_tokens": t.answer + t.thoughts,
        "total_tokens": t.fresh + t.cached + t.written + t.answer + t.thoughts,
        "cache_read_input_tokens": t.cached,
        "cache_creation_input_tokens": t.written,
        "completion_tokens_details": {"reasoning_tokens": t.thoughts},
    }


def anthropic(t: Truth) -> Report:
    return {
        "input_tokens": t.fresh,
        "output_tokens": t.answer + t.thoughts,
        "cache_read_input_tokens": t.cached,
        "cache_creation_input_tokens": t.written,
        "output_tokens_details": {"reasoning_tokens": t.thoughts},
    }


def bedrock(t: Truth) -> Report:
    return {
        "inputTokens": t.fresh,
        "outputTokens": t.answer + t.thoughts,
        "totalTokens": t.fresh + t.cached + t.written + t.answer + t.thoughts,
        "cacheReadInputTokens": t.cached,
        "cacheWriteInputTokens": t.written,
    }


def thoughts_beside(t: Truth) -> Report:
    """xAI, and Gemini where it says how much it thought."""
    report = openai(t)
    return report | {"completion_tokens": t.answer}


def gemini(t: Truth) -> Report:
    report = openai(t)
    del report["completion_tokens_details"]
    return report | {"completion_tokens": t.answer}


def mistral(t: Truth) -> Report:
    report = openai(t)
    return report | {"prompt_tokens": t.fresh + t.cached + t.written}


def caches_beside(t: Truth) -> Report:
    """Gateways that write Anthropic's counts with OpenAI's names."""
    return openai(t) | {"prompt_tokens": t.fresh + t.audio}


def caches_and_thoughts_beside(t: Truth) -> Report:
    return caches_beside(t) | {"completion_tokens": t.answer}


def audio_and_thoughts_beside(t: Truth) -> Report:
    return mistral(t) | {"completion_tokens": t.answer}


CONVENTIONS: list[tuple[Callable[[Truth], Report], Callable[[Truth], Truth]]] = [
    (openai, lambda t: t),
    (responses, lambda t: t),
    (litellm, lambda t: t),
    (deepseek, lambda t: t._replace(written=0, audio=0)),
    (anthropic_with_total, lambda t: t._replace(audio=0)),
    (anthropic, lambda t: t._replace(audio=0)),
    (bedrock, lambda t: t._replace(audio=0, answer=t.answer + t.thoughts, thoughts=0)),
    (thoughts_beside, lambda t: t),
    (gemini, lambda t: t._replace(answer=max(t.answer, 1))),
    (mistral, lambda t: t),
    (caches_beside, lambda t: t),
    (caches_and_thoughts_beside, lambda t: t),
    (audio_and_thoughts_beside, lambda t: t),
]
counts = st.one_of(st.just(0), st.integers(0, 60), st.integers(0, 10**6), st.integers(0, 10**11))
truths = st.builds(Truth, *[counts] * 6)


@pytest.mark.parametrize(("write", "told"), CONVENTIONS, ids=lambda each: getattr(each, "__name__", ""))
@given(truth=truths)
def test_what_is_read_is_what_was_used_or_what_is_written_the_same_way(
    write: Callable[[Truth], Report], told: Callable[[Truth], Truth], truth: Truth
) -> None:
    truth = told(truth)
    report, wanted = write(truth), truth.usage
    got = usage_of(report)
    if not any(truth):
        assert got is None
        return
    assert got is not None
    assert got.source == "reported"
    if got != wanted:  # then another truth in another convention reads the same, and nobody can tell
        read = Truth(
            got.input_tokens - got.cache_read_input_tokens - got.cache_creation_input_tokens - got.input_audio_tokens,
            got.cache_read_input_tokens,
            got.cache_creation_input_tokens,
            got.input_audio_tokens,
            got.output_tokens - got.reasoning_output_tokens,
            got.reasoning_output_tokens,
        )
        assert any(_same(other(tell(read)), report) for other, tell in CONVENTIONS), (got, wanted)


def _same(a: Report, b: Report) -> bool:
    """Whether two reports have the same sums and parts, whatever they call them."""
    return _figures(a) == _figures(b)


def _figures(report: Report) -> tuple[Any, ...]:
    def first(*names: str) -> int:
        return next((report[name] for name in names if name in report), 0)

    inputs: Report = report.get("prompt_tokens_details") or report.get("input_tokens_details") or {}
    outputs: Report = report.get("completion_tokens_details") or report.get("output_tokens_details") or {}
    read = first("cache_read_input_tokens", "cacheReadInputTokens", "prompt_cache_hit_tokens")
    return (
        first("prompt_tokens", "input_tokens", "inputTokens"),
        first("completion_tokens", "output_tokens", "outputTokens"),
        first("total_tokens", "totalTokens"),
        inputs.get("cached_tokens", read) or read,
        inputs.get("cache_write_tokens", 0) or first("cache_creation_input_tokens", "cacheWriteInputTokens"),
        inputs.get("audio_tokens", 0),
        outputs.get("reasoning_tokens", 0),
    )


@pytest.mark.parametrize(("write", "told"), CONVENTIONS, ids=lambda each: getattr(each, "__name__", ""))
def test_counts_that_cannot_be_mistaken_are_read_in_every_convention(
    write: Callable[[Truth], Report], told: Callable[[Truth], Truth]
) -> None:
    for used in (Truth(368, 10_536, 0, 0, 19, 0), Truth(1009, 2003, 4001, 8009, 16_001, 32_003)):
        truth = told(used)
        assert usage_of(write(truth)) == truth.usage


def test_a_total_that_leaves_caches_out_does_not_make_them_smaller() -> None:
    report = {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5, "cache_read_input_tokens": 1000}
    assert usage_of(report) == Usage(1004, 1, 1000, source="reported")


@pytest.mark.parametrize("name", ["num_cached_tokens", "cached_tokens", "prompt_cache_hit_tokens"])
def test_cached_tokens_of_the_prompt_under_names_of_their_own(name: str) -> None:
    report = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, name: 4}
    assert usage_of(report) == Usage(9, 1, 4, source="reported")


@pytest.mark.parametrize(
    ("caches", "input_tokens"),
    [
        ({"cache_read_input_tokens": 5}, 15),
        ({"cache_creation_input_tokens": 5}, 15),
        ({"cache_read_input_tokens": 5, "cache_creation_input_tokens": 3}, 18),
        ({"cached_tokens": 5}, 10),
        ({"cached_tokens": 5, "cache_creation_input_tokens": 3}, 10),
        ({"cache_read_input_tokens": 5, "input_tokens_details": {"cache_write_tokens": 3}}, 10),
        ({"cache_read_input_tokens": 5, "input_tokens_details": {"audio_tokens": 1}}, 10),
    ],
)
def test_without_a_total_caches_are_beside_an_input_of_anthropic_and_of_nobody_else(
    caches: Report, input_tokens: int
) -> None:
    found = usage_of({"input_tokens": 10, "output_tokens": 2, **caches})
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (input_tokens, 2)


@pytest.mark.parametrize(
    ("caches", "input_tokens"),
    [
        ({"cache_read_input_tokens": 5}, 15),
        ({"cache_creation_input_tokens": 5}, 15),
        ({"cached_tokens": 5}, 10),
        ({"input_tokens_details": {"cached_tokens": 5}}, 10),
        ({"input_tokens_details": {"cache_write_tokens": 5}}, 10),
    ],
)
def test_a_total_that_caches_or_thoughts_would_explain_is_explained_as_the_names_of_the_caches_say(
    caches: Report, input_tokens: int
) -> None:
    found = usage_of(
        {
            "input_tokens": 10,
            "output_tokens": 10,
            "total_tokens": 25,
            "output_tokens_details": {"reasoning_tokens": 5},
            **caches,
        }
    )
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (input_tokens, 25 - input_tokens)


def test_thoughts_beside_a_completion_without_a_total() -> None:
    report = {"prompt_tokens": 4, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 9}}
    assert usage_of(report) == Usage(4, 10, 0, 0, 9, "reported")


NUMBERS: list[tuple[Any, int]] = [
    (100.0, 100),
    ("123", 123),
    (" 7 ", 7),
    ("8.0", 8),
    (0, 0),
    (None, 0),
    (MOST_TOKENS, MOST_TOKENS),
]
ROUNDED: list[tuple[Any, int]] = [(14417.92, 14418), ("0.5", 1), (1e-300, 1)]
WRONG: list[tuple[Any, str]] = [
    (-1, "negative"),
    (-0.5, "negative"),
    ("-3", "negative"),
    (-math.inf, "negative"),
    (math.nan, "not_a_number"),
    ("NaN", "not_a_number"),
    ("", "not_a_number"),
    ("many", "not_a_number"),
    (True, "not_a_number"),
    (False, "not_a_number"),
    ([], "not_a_number"),
    ({"tokens": 5}, "not_a_number"),
    (MOST_TOKENS + 1, "too_large"),
    (10**40, "too_large"),
    (1e300, "too_large"),
    (math.inf, "too_large"),
    ("9" * 100_000, "too_large"),
]
PLACES: list[Callable[[Any], Report]] = [
    lambda value: {"prompt_tokens": value, "completion_tokens": 5},
    lambda value: {"prompt_tokens": 5, "completion_tokens": value},
    lambda value: {"input_tokens": 5, "output_tokens": 5, "total_tokens": value},
    lambda value: {"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": value}},
    lambda value: {"prompt_tokens": 5, "completion_tokens": 5, "completion_tokens_details": {"image_tokens": value}},
    lambda value: {"prompt_tokens": 5, "completion_tokens": 5, "cache_creation_input_tokens": value},
]


@pytest.mark.parametrize(("value", "count"), NUMBERS)
def test_a_number_in_another_form_is_that_number(value: Any, count: int) -> None:
    assert usage_of({"prompt_tokens": value, "completion_tokens": 5}) == Usage(count, 5, source="reported")


@pytest.mark.parametrize(("value", "count"), ROUNDED)
def test_part_of_a_token_is_a_token_and_said_to_be_rounded(value: Any, count: int) -> None:
    found = usage_of({"prompt_tokens": value, "completion_tokens": 5})
    assert found == Usage(count, 5, source="reported", reason="rounded")


@pytest.mark.parametrize(("value", "reason"), WRONG, ids=lambda each: str(each)[:20])
@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
def test_what_is_no_count_makes_the_report_invalid(place: Callable[[Any], Report], value: Any, reason: str) -> None:
    assert usage_of(place(value)) == Usage(source="invalid", reason=reason)


def test_sums_are_bounded_too() -> None:
    report = {"prompt_tokens": 1, "completion_tokens": 1, "cache_read_input_tokens": MOST_TOKENS}
    assert usage_of(report) == Usage(source="invalid", reason="too_large")


def test_details_that_are_no_object_are_not_overlooked() -> None:
    report = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": [{"cached_tokens": 5}]}
    assert usage_of(report) == Usage(source="invalid", reason="not_an_object")
    assert usage_of({**report, "prompt_tokens_details": []}) == Usage(9, 1, source="reported")


@pytest.mark.parametrize("digits", ["9" * 5000, "-" + "9" * 5000, "9" * 4300, "1e999"])
def test_a_count_that_python_does_not_read_is_one_all_the_same(digits: str) -> None:
    document = loads_or_none(b'{"id": "a", "usage": {"prompt_tokens": %s, "completion_tokens": 1}}' % digits.encode())
    reason = "negative" if digits.startswith("-") else "too_large"
    assert document["id"] == "a"
    assert usage_of(document["usage"]) == Usage(source="invalid", reason=reason)


COUNTED = {"prompt_tokens": 9, "completion_tokens": 1}


@pytest.mark.parametrize(
    ("stated", "usd"),
    [
        ({"cost": 0.00000465}, "0.00000465"),
        ({"cost": "0.0123"}, "0.0123"),
        ({"cost": 3}, "3"),
        ({"cost": 0}, "0"),
        ({"cost": 1e-30}, "0"),
        ({"cost": {"input_tokens_cost": 1e-05, "request_cost": 0.005, "total_cost": 0.00507}}, "0.00507"),
        ({"cost": 0.05, "is_byok": True, "cost_details": {"upstream_inference_cost": 1.2}}, "1.25"),
        ({"cost": 0.05, "is_byok": False, "cost_details": {"upstream_inference_cost": 1.2}}, "0.05"),
        ({"estimated_cost": 0.002}, "0.002"),
        ({"cost_in_usd_ticks": 5_143_500}, "0.00051435"),
        ({"cost": -0.0}, "0"),
        ({"cost": "-0.000"}, "0"),
    ],
)
def test_what_a_server_says_it_cost(stated: Report, usd: str) -> None:
    found = usage_of(COUNTED | stated)
    assert found == Usage(9, 1, source="reported", cost_reported=Decimal(usd))
    assert found is not None
    assert found.to_event().get("cost_reported") == usd
    assert Usage.from_event(json.loads(json.dumps(found.to_event()))) == found


@pytest.mark.parametrize(
    "cost",
    [
        *(True, -0.01, math.nan, math.inf, "free", "", [1], MOST_COST + 1, 10**400),
        *({"total_cost": -1}, {"parts": 1}, {"total_cost": 1, "currency": "EUR"}),
    ],
    ids=lambda each: str(each)[:20],
)
def test_a_cost_that_is_none_is_said_to_be_so_and_counts_stay(cost: Any) -> None:
    assert usage_of(COUNTED | {"cost": cost}) == Usage(9, 1, source="reported", reason="cost_invalid")


@pytest.mark.parametrize(
    ("stated", "usd"), [("0.000415", "0.000415"), ("4.15e-05", "0.0000415"), ("3", "3"), ("0", None), ("0.0", None)]
)
@pytest.mark.parametrize("source", ["reported", "estimated", "missing", "invalid"])
def test_the_cost_of_a_header_counts_where_usage_has_none(stated: str, usd: str | None, source: UsageSource) -> None:
    usage = Usage(9, 1, source=source)
    assert with_cost_of_header(usage, stated) == usage._replace(cost_reported=Decimal(usd) if usd else None)
    paid = usage._replace(cost_reported=Decimal(0))
    assert with_cost_of_header(paid, stated) == paid


@pytest.mark.parametrize("stated", ["-1", "NaN", "inf", "None", "1,5", "0.1, 0.2", "9" * 5000, "1e400"])
def test_a_header_that_is_no_cost_is_said_to_be_so(stated: str) -> None:
    usage = Usage(9, 1, source="reported")
    assert with_cost_of_header(usage, stated) == usage._replace(reason="cost_invalid")
    assert with_cost_of_header(Usage(source="none"), stated) == Usage(source="none")


def test_usage_in_another_place_is_read_where_the_usual_one_says_nothing() -> None:
    fields = {"meta": {"tokens": {"input_tokens": 3, "output_tokens": 4}}}
    assert told_in(fields, is_whole=True) == (Usage(3, 4, source="reported"), None)
    assert told_in(fields, is_whole=False) == (None, None)
    of_groq = {"x_groq": {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}}
    usual = fields | of_groq | {"usage": {"prompt_tokens": 5, "completion_tokens": 6}}
    for is_whole in (True, False):
        assert told_in(usual, is_whole=is_whole) == (Usage(5, 6, source="reported"), None)
        assert told_in(fields | of_groq, is_whole=is_whole) == (Usage(1, 2, source="reported"), None)


def test_images_that_a_tool_made_are_counted_once() -> None:
    images = {
        "input_tokens": 50,
        "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
        "output_tokens": 1056,
        "output_tokens_details": {"image_tokens": 1056},
        "total_tokens": 1106,
    }
    text = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
    both = Usage(150, 1076, source="reported", input_image_tokens=40, output_image_tokens=1056)
    assert usage_of(text, {"image_gen": images}) == both
    told = {**text, "output_tokens": 1076, "total_tokens": 1176, "output_tokens_details": {"image_tokens": 1056}}
    assert usage_of(told, {"image_gen": images}) == Usage(100, 1076, source="reported", output_image_tokens=1056)
    assert usage_of(text, {"image_gen": {"input_tokens": 0, "output_tokens": 0}}) == Usage(100, 20, source="reported")
    asked, drew = {"input_tokens": 7, "output_tokens": 0}, {"input_tokens": 0, "output_tokens": 9}
    only_asked = Usage(107, 20, source="reported", input_image_tokens=0, output_image_tokens=0)
    assert usage_of(text, {"image_gen": asked}) == only_asked
    only_drew = Usage(100, 29, source="reported", input_image_tokens=0, output_image_tokens=9)
    assert usage_of(text, {"image_gen": drew}) == only_drew
    assert usage_of(text, {"image_gen": {"input_tokens": -1}}) == Usage(source="invalid", reason="negative")
    for is_whole in (True, False):
        assert told_in({"usage": text, "tool_usage": {"image_gen": images}}, is_whole=is_whole) == (both, None)
        alone = usage_of(None, {"image_gen": images})
        assert told_in({"tool_usage": {"image_gen": images}}, is_whole=is_whole) == (alone, None)
        assert alone == Usage(50, 1056, source="reported", input_image_tokens=40, output_image_tokens=1056)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([10**13, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    *("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "cost", "type", "seconds"),
    *("prompt_tokens_details", "completion_tokens_details", "cache_read_input_tokens", "cached_tokens", "image_gen"),
    *("audio_tokens", "reasoning_tokens", "image_tokens", "cost_in_usd_ticks", "prompt_audio_seconds", "is_byok"),
]
reports = st.dictionaries(
    st.sampled_from(NAMES),
    JSON | st.integers(0, 2000) | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4),
    max_size=8,
)


@given(JSON | reports, JSON | reports)
def test_whatever_is_reported_an_event_takes_it(usage: Any, tool_usage: Any) -> None:
    found = usage_of(usage, tool_usage)
    assert found is None or Usage.from_event(json.loads(json.dumps(found.to_event(), allow_nan=False))) == found


@given(st.text(st.characters(codec=None, exclude_categories=()), min_size=1), st.integers(1, 50))
def test_texts_are_cut_and_clean(text: str, longest: int) -> None:
    clean = text_of(text, longest)
    assert clean is not None
    assert len(clean) == min(len(text), longest)
    assert clean.isprintable() or "\ufffd" in clean
    assert clean.encode().decode() == clean
    assert not text.isprintable() or clean == text[:longest]


@pytest.mark.parametrize("value", [None, True, "1", -1, math.nan, math.inf, 10**400, 10**12, []])
def test_what_is_no_moment(value: Any) -> None:
    assert moment_of(value) is None


KNOWN_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cache_read_input_tokens", ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens")),
    ("cache_read_input_tokens", ("cache_read_input_tokens", "cacheReadInputTokens")),
    ("cache_read_input_tokens", ("prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens")),
    ("cache_read_input_tokens", ("input_token_details.cached_tokens", "prompt_token_details.cached_tokens")),
    ("cache_creation_input_tokens", ("cache_creation_input_tokens", "cacheWriteInputTokens")),
    ("cache_creation_input_tokens", ("cache_creation_tokens", "cache_write_tokens")),
    ("cache_creation_input_tokens", ("input_tokens_details.cache_creation_tokens",)),
    ("cache_creation_input_tokens", ("input_tokens_details.cache_write_tokens",)),
    ("cache_creation_input_tokens", ("input_tokens_details.cache_creation_input_tokens",)),
    ("cache_creation_input_tokens", ("cache_creation.ephemeral_5m_input_tokens",)),
    ("cache_creation_input_tokens", ("cache_creation.ephemeral_1h_input_tokens",)),
    (
        "reasoning_output_tokens",
        ("completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens"),
    ),
    ("reasoning_output_tokens", ("output_token_details.reasoning_tokens", "output_tokens_details.thinking_tokens")),
    ("input_audio_tokens", ("input_tokens_details.audio_tokens",)),
    ("output_audio_tokens", ("output_tokens_details.audio_tokens",)),
    ("input_image_tokens", ("input_tokens_details.image_tokens",)),
    ("output_image_tokens", ("output_tokens_details.image_tokens",)),
)
"""Where servers write a part of what they counted."""


@pytest.mark.parametrize("of_input", ["prompt_tokens", "input_tokens", "inputTokens"])
@pytest.mark.parametrize("of_output", ["completion_tokens", "output_tokens", "outputTokens"])
@pytest.mark.parametrize("of_all", ["total_tokens", "totalTokens"])
def test_every_name_that_servers_have_for_a_count_is_known(of_input: str, of_output: str, of_all: str) -> None:
    counts = {of_input: 10, of_output: 5, of_all: 15}
    assert usage_of(counts) == Usage(10, 5, source="reported")
    assert usage_of({of_input: 10, of_all: 15}) == Usage(10, 5, source="reported"), "what the total says beyond it"
    for part, places in KNOWN_NAMES:
        for place in places:
            outer, _, name = place.rpartition(".")
            expected = Usage(10, 5, source="reported")._replace(**{part: 4})
            found = usage_of(counts | ({outer: {name: 4}} if outer else {name: 4}))
            assert found is not None
            assert found.cache_creation_1h_input_tokens == (4 if "1h" in name else 0)
            assert found._replace(cache_creation_1h_input_tokens=0) == expected, place


COUNTS = st.sampled_from([0, 1, 2, 3, 5, MOST_TOKENS, MOST_TOKENS + 1, -1, 1.0, "2", True, None])
OF_TOTAL = ("prompt_tokens", "completion_tokens", "total_tokens")
PARTS = st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens", "rejected_prediction_tokens", "text"])
DETAILS = st.dictionaries(PARTS, COUNTS, max_size=3) | st.sampled_from([None, [], "x", [1]])


@given(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 1)),
    st.dictionaries(st.sampled_from(OF_TOTAL), COUNTS, max_size=1),
    st.fixed_dictionaries({}, optional={"prompt_tokens_details": DETAILS, "completion_tokens_details": DETAILS}),
)
def test_a_usual_report_is_read_as_any_other(
    counts: tuple[int, int, int], odd: dict[str, Any], details: dict[str, Any]
) -> None:
    prompt, completion, more = counts
    report = dict(zip(OF_TOTAL, (prompt, completion, prompt + completion + more), strict=True)) | odd | details
    assert usage_of(report) == usage_of(report | {"unheard_of": None})


def test_each_part_of_a_usual_report_is_that_part() -> None:
    report = {
        "prompt_tokens": 50,
        "completion_tokens": 40,
        "total_tokens": 90,
        "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 4, "accepted_prediction_tokens": 5},
    }
    expected = Usage(
        input_tokens=50,
        output_tokens=40,
        cache_read_input_tokens=1,
        reasoning_output_tokens=3,
        source="reported",
        input_audio_tokens=2,
        output_audio_tokens=4,
    )
    assert usage_of(report) == usage_of(report | {"unheard_of": None}) == expected


def test_a_cost_alone_is_a_report() -> None:
    assert usage_of({"cost": 1}) == Usage(source="reported", cost_reported=Decimal(1))


def test_what_a_server_says_it_wrote_goes_before_the_sum_of_what_was_written_by_time() -> None:
    usage = {"input_tokens": 50, "output_tokens": 1, "cache_creation_input_tokens": 10}
    found = usage_of(usage | {"cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2}})
    assert found
    assert (found.cache_creation_input_tokens, found.cache_creation_1h_input_tokens) == (10, 2)


OF_A_USUAL_REPORT = (None, 0, 1, 2, 3)


@pytest.mark.parametrize("name", ["cached_tokens", "audio_tokens", "reasoning_tokens"])
@pytest.mark.parametrize("details", ["prompt_tokens_details", "completion_tokens_details"])
def test_every_short_report_is_read_as_any_other(details: str, name: str) -> None:
    """What is None here is not in the report."""
    for counts in itertools.product(OF_A_USUAL_REPORT, repeat=4):
        fields = dict(zip((*OF_TOTAL, name), counts, strict=True))
        report: Any = {key: count for key, count in fields.items() if count is not None}
        if name in report:
            report[details] = {name: report.pop(name)}
        assert usage_of(report) == usage_of(report | {"unheard_of": None}), report


def test_the_seconds_of_sound_that_mistral_counts_are_its_duration() -> None:
    found = usage_of({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "prompt_audio_seconds": 3})
    assert found == Usage(input_tokens=5, output_tokens=2, source="reported", duration=3)
