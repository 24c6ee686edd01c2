"""Which chunks report usage and nothing else: those are hidden from a client that did not ask, and no others."""

import json
from typing import Any

import pytest
from proxy.metering.meter import AnswerTraits, Meter

NOTHING: dict[str, Any] = {}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


PIECE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": "a"}}])
DONE = b"data: [DONE]\n\n"


def a_choice(*, index: Any = 0, delta: dict[str, Any] = NOTHING, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, **more}]}


HIDDEN: list[dict[str, Any]] = [
    {},
    {"choices": []},
    {"choices": None, "id": "a", "model": "m", "x": {"y": "z"}, "citations": [], "error": None},
    a_choice(),
    a_choice(finish_reason=None, logprobs=None),
    a_choice(finish_reason="", text=""),
    a_choice(delta={"role": "assistant", "name": "bot", "content": "", "tool_calls": []}),
    a_choice(delta={"content": None, "audio": {"data": "", "more": [], "deep": {"er": None}}}),
    a_choice(seed=5, probability=0.5, flag=False, role="assistant", name="bot"),
]
SHOWN: list[dict[str, Any]] = [
    a_choice(delta={"content": "a"}),
    a_choice(delta={"reasoning": "a"}),
    a_choice(delta={"tool_calls": [{"index": 0}]}),
    a_choice(delta={"audio": {"data": "a"}}),
    a_choice(delta={"audio": {"deep": {"er": [1]}}}),
    a_choice(finish_reason="stop"),
    a_choice(text="a"),
    a_choice(flag=True),
    a_choice(index=1, delta={"role": "assistant"}),
    {"choices": "a"},
    {"choices": {"0": NOTHING}},
    {"error": {"message": "no"}},
    {"error": "no"},
    {"citations": ["a"]},
]


@pytest.mark.parametrize("one_choice", [True, False])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("fields", "is_hidden"),
    [*((fields, True) for fields in HIDDEN), *((fields, False) for fields in SHOWN)],
    ids=range(len(HIDDEN) + len(SHOWN)),
)
def test_a_chunk_is_hidden_if_a_client_would_show_nothing_of_it(
    fields: dict[str, Any], is_hidden: bool, together: bool, one_choice: bool
) -> None:
    if one_choice and fields == a_choice(index=1, delta={"role": "assistant"}):
        return  # there is no other choice
    said = event(**fields, usage=USAGE)
    meter = Meter("text/event-stream", True, AnswerTraits(hides_usage=True, one_choice=one_choice))
    chunks = [PIECE + said + DONE] if together else [PIECE, said, DONE]
    seen = b"".join(map(meter.see, chunks))
    assert seen == PIECE + (b"" if is_hidden else said) + DONE
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (5, 2)


def test_the_chunk_that_begins_a_choice_is_shown_and_every_other_one_with_usage_is_hidden() -> None:
    first = event(**a_choice(delta={"role": "assistant"}), usage=USAGE)
    second = event(**a_choice(index=1, delta={"role": "assistant"}), usage=USAGE)
    for one_choice, chunks, seen in (
        (True, [first, PIECE, first], first + PIECE),
        (False, [first, second, PIECE, first, second], first + second + PIECE),
        (False, [PIECE, second, first, second], PIECE + second),
    ):
        meter = Meter("text/event-stream", True, AnswerTraits(hides_usage=True, one_choice=one_choice))
        assert b"".join(map(meter.see, chunks)) == seen


def test_what_a_client_asked_for_is_shown() -> None:
    meter = Meter("text/event-stream", uses_tokens=True)
    assert meter.see(PIECE + event(usage=USAGE)) == PIECE + event(usage=USAGE)
