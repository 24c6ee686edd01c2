"""Answers that are proven whole and good, and every way in which they might not be.

Many answers are made, each from its number, so that a failure comes again. Of every one it is known whether it
is whole and good: it was made so, or spoiled in one way.
"""

import base64
import json
import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import pytest
from proxy.json_shapes import array_of, object_of
from proxy.metering.whole_answer import flaw_of

from tests.examples import examples
from tests.recordings import STREAMS, recorded

CHAT, TEXT, RESPONSES, EMBEDDINGS = "/chat/completions", "/completions", "/responses", "/embeddings"
WORDS = ["Hello", " world", "[DONE]", "data: [DONE]\n\n", '{"error": "x"}', "ü", "\ud83d\ude00", "", "a\r\nb", '"']


@dataclass(frozen=True)
class Made:
    """An answer: `parts` are a document, or the events of a stream as (name, data), of which data may be text."""

    path: str
    fields: dict[str, Any]
    parts: list[tuple[str, Any]]
    is_stream: bool
    line_end: str = "\n"
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def body(self) -> bytes:
        if not self.is_stream:
            return written(self.parts[0][1])
        end = self.line_end
        events = [
            (f"event: {name}{end}" if name else "") + f"data: {text_of(data)}{end}{end}" for name, data in self.parts
        ]
        return "".join(events).encode()

    def flaw(self, body: bytes | None = None) -> str | None:
        whole = self.body if body is None else body
        return flaw_of(self.path, self.fields, whole, is_stream=self.is_stream, **self.extra)

    def with_parts(self, parts: list[tuple[str, Any]]) -> "Made":
        return replace(self, parts=parts)


def written(document: Any) -> bytes:
    return json.dumps(document).encode()


def text_of(data: Any) -> str:
    return data if isinstance(data, str) else json.dumps(data)


def texts(chance: random.Random) -> list[str]:
    return [chance.choice(WORDS) for _ in range(chance.randint(1, 4))]


def call(chance: random.Random, index: int) -> dict[str, Any]:
    if chance.random() < 0.2:  # of a tool whose input is any text; some servers leave out the type
        kind = chance.choice([{"type": "custom"}, {}])
        return {"index": index, "id": f"call_{index}", **kind, "custom": {"name": "f", "input": "{any text"}}
    arguments = json.dumps({"error": "x", "n": chance.random()})
    return {
        "index": index,
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
    }


def chat(chance: random.Random, is_stream: bool) -> Made:
    number = chance.randint(1, 3)
    fields: dict[str, Any] = {} if number == 1 and chance.random() < 0.5 else {"n": number}
    calls = [[call(chance, index) for index in range(chance.choice([0, 0, 1, 2]))] for _ in range(number)]
    reasons = ["tool_calls" if some else chance.choice(["stop", "length"]) for some in calls]
    common = {"id": "c", "object": "chat.completion.chunk" if is_stream else "chat.completion", "model": "m"}
    if not is_stream:
        choices = [
            {"index": index, "message": {"role": "assistant", "content": "".join(texts(chance)), "tool_calls": some},
             "finish_reason": reason}
            for index, (some, reason) in enumerate(zip(calls, reasons, strict=True))
        ]  # fmt: skip
        chance.shuffle(choices)
        return Made(CHAT, fields, [("", {**common, "choices": choices, "usage": {"total_tokens": 3}})], False)
    lines: list[list[Any]] = []
    for index, (some, reason) in enumerate(zip(calls, reasons, strict=True)):
        deltas: list[dict[str, Any]] = [
            {"role": "assistant", "content": ""},
            *({"content": each} for each in texts(chance)),
        ]
        for each in some:
            kind, name = ("custom", "input") if "custom" in each else ("function", "arguments")
            cut = chance.randint(0, len(each[kind][name]))
            deltas.append({"tool_calls": [{**each, kind: {"name": "f", name: each[kind][name][:cut]}}]})
            deltas.append({"tool_calls": [{"index": each["index"], kind: {name: each[kind][name][cut:]}}]})
        line = [{"index": index, "delta": delta, "finish_reason": None} for delta in deltas]
        lines.append([*line, {"index": index, "delta": {}, "finish_reason": reason}])
    chunks: list[tuple[str, Any]] = [("", {**common, "choices": [each]}) for each in side_by_side(lines, chance)]
    usage: list[tuple[str, Any]] = (
        [("", {**common, "choices": [], "usage": {"total_tokens": 3}})] if chance.random() < 0.5 else []
    )
    return Made(CHAT, fields, [*chunks, *usage, ("", "[DONE]")], True, chance.choice(["\n", "\r\n"]))


def side_by_side(lines: list[list[Any]], chance: random.Random) -> list[Any]:
    """All that is in the lines, each in its order."""
    found: list[Any] = []
    while any(lines):
        found.append(chance.choice([each for each in lines if each]).pop(0))
    return found


def completion(chance: random.Random) -> Made:
    prompts = chance.choice([("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2, 3], [4]], 3)])
    number = chance.randint(1, 2)
    choices = [{"index": index, "text": "a", "finish_reason": "stop"} for index in range(number * prompts[1])]
    return Made(
        TEXT, {"prompt": prompts[0], "n": number}, [("", {"object": "text_completion", "choices": choices})], False
    )


def response(chance: random.Random, is_stream: bool) -> Made:
    said = [[texts(chance) for _ in range(chance.randint(1, 2))] for _ in range(chance.randint(1, 3))]
    items = [
        {
            "type": "message",
            "status": "completed",
            "content": [{"type": "output_text", "text": "".join(each)} for each in parts],
        }
        for parts in said
    ]
    document = {
        "id": "r", "object": "response", "status": "completed", "error": None, "incomplete_details": None,
        "output": items, "tools": [{"type": "function", "parameters": {"properties": {"error": {"type": "string"}}}}],
        "text": {"format": {"type": "json_schema", "schema": {"properties": {"error": {"type": "null"}}}}},
    }  # fmt: skip
    if not is_stream:
        return Made(RESPONSES, {"store": False}, [("", document)], False)
    begun = {**document, "status": "in_progress", "output": []}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    told: list[list[dict[str, Any]]] = []
    for index, (parts, item) in enumerate(zip(said, items, strict=True)):
        added = {"type": "response.output_item.added", "output_index": index, "item": {**item, "content": []}}
        lines: list[list[dict[str, Any]]] = []
        for number, each in enumerate(parts):
            place = {"output_index": index, chance.choice(["content_index", "summary_index"]): number}
            line = [{"type": "response.output_text.delta", **place, "delta": text} for text in each]
            lines.append([*line, {"type": "response.output_text.done", **place, "text": "".join(each)}])
        done = {"type": "response.output_item.done", "output_index": index, "item": item}
        told.append([added, *side_by_side(lines, chance), done])
    events += side_by_side(told, chance)
    events.append({"type": "response.completed", "response": document})
    is_numbered = chance.random() < 0.5  # some servers do not number them: then all depends on what they say
    numbers = [{"sequence_number": number} if is_numbered else {} for number in range(len(events))]
    made = [(event["type"], event | number) for event, number in zip(events, numbers, strict=True)]
    return Made(RESPONSES, {"store": False}, made, True)


def embeddings(chance: random.Random) -> Made:
    given, number = chance.choice([("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2, 3], [4]], 3)])
    length = chance.randint(1, 4)
    vectors: list[Any] = [[chance.random() for _ in range(length)] for _ in range(number)]
    if chance.random() < 0.5:
        vectors = [base64.b64encode(struct.pack(f"<{length}f", *each)).decode() for each in vectors]
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)]
    return Made(EMBEDDINGS, {"input": given}, [("", {"object": "list", "data": data, "model": "m"})], False)


MAKERS: list[Callable[[random.Random], Made]] = [
    lambda chance: chat(chance, True),
    lambda chance: chat(chance, False),
    completion,
    lambda chance: response(chance, True),
    lambda chance: response(chance, False),
    embeddings,
]
ERRORS: list[tuple[str, Any]] = [
    ("", {"error": "text"}),
    ("", {"error": {"message": "x"}}),
    ("", {"type": "error", "message": "x"}),
    ("error", {"choices": []}),
    ("error", "not JSON"),
    ("", {"object": "error", "message": "x", "code": 500}),
    ("", {"choices": [{"index": 0, "delta": {}, "error": {"message": "x"}}]}),
    ("response.failed", {"type": "response.failed", "response": {"error": {"message": "x"}}}),
    ("", {"choices": [], "x_groq": {"error": "over capacity"}}),
    ("", "[DONE"),
    ("", "not JSON"),
    ("", [1]),
    ("", {"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}),
    ("", {"choices": [], "prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": True}}}]}),
    ("", {"choices": [{"index": 0, "delta": {}, "finish_reason": None, "native_finish_reason": "SAFETY"}]}),
    ("", {"choices": [], "citations": ["https://example.com"]}),
    ("", {"choices": [{"index": 0, "delta": {"annotations": [{"type": "url_citation"}]}}]}),
    ("", '{"choices": [], "usage": NaN}'),
    ("", '{"choices": [], "error": {"message": "x"}, "error": null}'),
    ("response.web_search_call.in_progress", {"type": "response.web_search_call.in_progress", "output_index": 0}),
]


def cut(made: Made, chance: random.Random) -> str | None:
    body = made.body
    return made.flaw(body[: chance.randrange(len(body))])


def with_an_error(made: Made, chance: random.Random) -> str | None:
    if not made.is_stream:
        name, value = chance.choice([("error", "x"), ("error", {"message": "x"}), ("object", "error"), ("errors", [1])])
        return made.with_parts([("", {**made.parts[0][1], name: value})]).flaw()
    at = chance.randint(0, len(made.parts))
    return made.with_parts([*made.parts[:at], chance.choice(ERRORS), *made.parts[at:]]).flaw()


_COUNTED = ("output_item.added", "output_item.done", "response.completed")
"""Events that come once for each of what they tell, whether or not events have numbers."""


def with_one_of_its_parts_twice_or_not_at_all(made: Made, chance: random.Random) -> str | None:
    """For what is counted: choices, items, vectors, the events of a response."""
    times = chance.choice([0, 2])
    if made.is_stream and made.path == RESPONSES:
        is_numbered = "sequence_number" in made.parts[0][1]
        counted = [at for at, (kind, _) in enumerate(made.parts) if is_numbered or kind.endswith(_COUNTED)]
        counted += [at for at, part in enumerate(made.parts) if is_piece(part, made.parts, times)]
        at = chance.choice(counted)
        at = len(made.parts) - 1 if at == 0 and times == 0 else at  # one that begins later has begun elsewhere
        return made.with_parts([*made.parts[:at], *[made.parts[at]] * times, *made.parts[at + 1 :]]).flaw()
    if made.is_stream:
        ends = [at for at, (_, data) in enumerate(made.parts) if "finish_reason" in str(data) and is_end(data)]
        at = chance.choice(ends)
        return made.with_parts([*made.parts[:at], *[made.parts[at]] * times, *made.parts[at + 1 :]]).flaw()
    document = made.parts[0][1]
    name = {CHAT: "choices", TEXT: "choices", EMBEDDINGS: "data", RESPONSES: "status"}[made.path]
    if name == "status":
        return made.with_parts([("", {**document, name: chance.choice(["incomplete", "in_progress", None])})]).flaw()
    members = document[name]
    at = chance.randrange(len(members))
    return made.with_parts([("", {**document, name: members[:at] + [members[at]] * times + members[at + 1 :]})]).flaw()


def is_piece(part: tuple[str, Any], parts: list[tuple[str, Any]], times: int) -> bool:
    """Whether a text is no longer the sum of its pieces, or has no end, with this event so many times."""
    kind, data = part
    others = [each for each in parts if each is not part and place_of(each[1]) == place_of(data)]
    pieces = [each for each in others if "delta" in each[1]]
    if kind.endswith("text.done"):
        return times == 0 and bool(pieces)
    return bool(data.get("delta")) and (times == 2 or bool(pieces))


def place_of(event: dict[str, Any]) -> list[Any]:
    return [event.get(name) for name in ("output_index", "content_index", "summary_index")]


def is_end(data: Any) -> bool:
    return any(choice["finish_reason"] for choice in array_of(object_of(data).get("choices")))


UNCLEAR: dict[str, list[Any]] = {"input": [None, [], [None], {}, ["a", 1], 1], "n": ["2", 0, True, 1.0, []]}


def asked_unclearly(made: Made, chance: random.Random) -> str | None:
    if made.path == RESPONSES:
        return cut(made, chance)
    name = "input" if made.path == EMBEDDINGS else "n"
    return replace(made, fields={**made.fields, name: chance.choice(UNCLEAR[name])}).flaw()


def with_bytes_behind_its_end(made: Made, chance: random.Random) -> str | None:
    more = chance.choice(["data: {}\n\n", '{"error": "x"}', "x", ": error\n\n", "data: [DONE]\n\n" * 2])
    return made.flaw(made.body + more.encode())


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("data", [b"", b"data:\n", b"data: \n"])
def test_an_error_that_only_its_name_tells_is_one(data: bytes, place: int) -> None:
    piece = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}
    events = [b"data: " + json.dumps({"choices": [piece]}).encode() + b"\n\n", b"data: [DONE]\n\n"]
    assert flaw_of("/chat/completions", {}, b"".join(events), is_stream=True) is None
    events.insert(place, b"event: error\n" + data + b"\n")
    assert flaw_of("/chat/completions", {}, b"".join(events), is_stream=True) == "error"


@pytest.mark.parametrize(
    ("calls", "reason", "flaw"),
    [
        ([0], "tool_calls", None),
        ([0, 1], "tool_calls", None),
        ([1, 0], "tool_calls", None),
        ([1], "tool_calls", "cut"),
        ([0, 2], "tool_calls", "cut"),
        ([], "tool_calls", "cut"),
        ([], "function_call", "cut"),
        ([], "stop", None),
        ([], "paused", "unended"),
    ],
)
def test_a_chat_has_all_of_its_calls(calls: list[int], reason: str, flaw: str | None) -> None:
    called = [{"index": index, "function": {"name": "f", "arguments": "{}"}} for index in calls]
    pieces = [{"tool_calls": [each]} for each in called] or [{"content": "a"}]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": piece, "finish_reason": None} for piece in pieces]
    choices.append({"index": 0, "delta": {}, "finish_reason": reason})
    events = [b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n" for choice in choices]
    body = b"".join([*events, b"data: [DONE]\n\n"])
    assert flaw_of("/chat/completions", {}, body, is_stream=True) == flaw


@pytest.mark.parametrize(
    ("told", "flaw"),
    [
        ({"output": []}, None),
        ({"output": "x"}, "unreadable"),
        ({"output": None}, "unreadable"),
        ({"output": [], "status": "failed"}, "error"),
        ({"output": [], "status": "in_progress"}, "unended"),
        ({"output": [], "incomplete_details": {"reason": "x"}}, "unended"),
        ({"output": [{"type": "message", "status": "in_progress"}]}, "cut"),
        ({"output": [{"type": 1}]}, "cut"),
    ],
)
def test_why_a_response_is_not_whole_is_told_in_a_word(told: dict[str, Any], flaw: str | None) -> None:
    body = json.dumps({"status": "completed", **told}).encode()
    assert flaw_of("/responses", {}, body, is_stream=False) == flaw


FLAWS = {"cut", "error", "filtered", "searched", "unclear", "unended", "unending", "unreadable"}
SPOILERS: list[Callable[[Made, random.Random], str | None]] = [
    cut,
    with_an_error,
    with_one_of_its_parts_twice_or_not_at_all,
    asked_unclearly,
    with_bytes_behind_its_end,
]


def test_of_many_answers_exactly_the_whole_and_good_ones_are_kept() -> None:
    for number in range(examples(1000)):
        chance = random.Random(number)
        made = chance.choice(MAKERS)(chance)
        assert made.flaw() is None, (number, made)
        spoil = chance.choice(SPOILERS)
        assert spoil(made, chance) in FLAWS, (number, spoil.__name__, made)


NOT_WHOLE = {
    "cerebras-chat.sse": "cut",  # recorded without its end mark
    "cerebras-chat-tools.sse": "cut",
    "databricks-chat-tools.sse": "unreadable",  # a call without arguments, as if it were cut
    "groq-chat-error.sse": "error",
    "openai-chat-audio.sse": "unreadable",
    "openai-responses-code-interpreter.sse": "searched",
    "openai-responses-incomplete.sse": "unended",
    "openai-responses-incomplete-whole.json": "unended",
    "perplexity-chat-whole.json": "searched",
}
RECORDED: list[dict[str, Any]] = [
    entry for entry in recorded() if f"/{entry['endpoint']}" in (CHAT, TEXT, RESPONSES, EMBEDDINGS)
]


@pytest.mark.parametrize("entry", RECORDED, ids=[entry["file"] for entry in RECORDED])
def test_answers_of_real_servers_are_kept_when_they_are_whole(entry: dict[str, Any]) -> None:
    body, is_stream = (STREAMS / entry["file"]).read_bytes(), entry["content type"].startswith("text/event-stream")
    fields = {"input": "a", **entry["request"]}
    assert flaw_of(f"/{entry['endpoint']}", fields, body, is_stream=is_stream) == NOT_WHOLE.get(entry["file"])


CUT_CALL = {"function": {"name": "f", "arguments": '{"a'}}


def doc(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop", **choice}]}


@pytest.mark.parametrize(
    ("document", "flaw"),
    [
        (doc(), None),
        (doc(finish_reason="function_call", message={"function_call": {"name": "f", "arguments": "{}"}}), None),
        (doc(message={"tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "{"}}]}), None),
        (doc(message={"content": "a", "annotations": [], "refusal": None}, error=None), None),
        (doc(finish_reason="tool_calls"), "cut"),
        (doc(finish_reason="length", message={"tool_calls": [CUT_CALL]}), "unreadable"),
        (doc(message={"tool_calls": [{"function": {"name": "f", "arguments": '"a"'}}]}), "cut"),
        (doc(message={"tool_calls": [{"function": {"arguments": "{}"}}]}), "cut"),
        (doc(finish_reason="content_filter"), "filtered"),
        (doc(finish_reason="end_turn"), "unended"),
        (doc(finish_reason=None), "unended"),
        (doc(content_filter_results={"hate": {"filtered": True}}), "filtered"),
        (doc(content_filter_results={"hate": {"filtered": False, "severity": "safe"}}), None),
        (doc(error="x"), "error"),
        (doc(error={"message": ""}), None),
        ({**doc(), "Error": "x"}, "error"),
        ({**doc(), "error_code": 17, "error_msg": "x"}, "error"),
        ({**doc(), "error_code": 0}, None),
        (doc(index=1), "unclear"),
        (doc(index="0"), "unreadable"),
        (doc(message=None), "unreadable"),
        (doc(message={"content": "a", "annotations": [{"type": "url_citation"}]}), "searched"),
        ({**doc(), "search_results": [{"url": "a"}]}, "searched"),
        ({**doc(), "usage": {"num_sources_used": 0, "server_tool_use": {"web_search_requests": 0}}}, None),
        ({**doc(), "usage": {"num_sources_used": 2}}, "searched"),
    ],
)  # fmt: skip
def test_a_document_of_a_chat(document: Any, flaw: str | None) -> None:
    assert flaw_of(CHAT, {}, written(document), is_stream=False) == flaw


@pytest.mark.parametrize(
    ("more", "flaw"),
    [
        *(
            ({"delta": {name: "x"}}, "unending")
            for name in ("content", "refusal", "reasoning_content", "reasoning", "tool_calls", "function_call", "audio")
        ),
        ({"text": "x"}, "unending"),
        ({"finish_reason": "stop"}, "unending"),
        ({"delta": {"role": "assistant", "content": ""}, "text": "", "finish_reason": None}, None),
        ({"delta": {"other": "x"}}, None),
    ],
)
def test_a_choice_that_has_ended_says_nothing_more(more: dict[str, Any], flaw: str | None) -> None:
    said = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}
    events = [written({"choices": [each]}) for each in (said, {"index": 0, **more})]
    body = b"".join(b"data: %b\n\n" % each for each in (*events, b"[DONE]"))
    assert flaw_of(CHAT, {}, body, is_stream=True) == flaw


def test_a_search_is_no_flaw_where_the_owner_says_so() -> None:
    searched = {**doc(), "citations": ["a"]}
    assert flaw_of(CHAT, {}, written(searched), is_stream=False, may_search=True) is None
    message: dict[str, Any] = {"type": "message", "content": []}
    for kind, flaw in (("web_search_call", None), ("code_interpreter_call", "searched"), ("mcp_call", "searched")):
        document: dict[str, Any] = {"status": "completed", "output": [{"type": kind, "status": "completed"}, message]}
        assert flaw_of(RESPONSES, {}, written(document), is_stream=False, may_search=True) == flaw
        assert flaw_of(RESPONSES, {}, written(document), is_stream=False) == "searched"


@pytest.mark.parametrize("bad", [math.nan, math.inf, None, "0.1", True, [0.1]])
def test_a_vector_has_finite_numbers(bad: Any) -> None:
    body = written({"data": [{"index": 0, "embedding": [0.1, bad]}]})
    assert flaw_of(EMBEDDINGS, {"input": "a"}, body, is_stream=False)
    if isinstance(bad, float):
        packed = base64.b64encode(struct.pack("<2f", 0.1, bad)).decode()
        assert flaw_of(EMBEDDINGS, {"input": "a"}, written({"data": [{"embedding": packed}]}), is_stream=False)


def test_vectors_are_all_of_the_length_that_was_asked_for() -> None:
    body = written({"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1, 2]}]})
    fields = {"input": ["a", "b"]}
    assert flaw_of(EMBEDDINGS, fields, body, is_stream=False) is None
    assert flaw_of(EMBEDDINGS, {**fields, "dimensions": 2}, body, is_stream=False) is None
    assert flaw_of(EMBEDDINGS, {**fields, "dimensions": 3}, body, is_stream=False)
    assert flaw_of(EMBEDDINGS, fields, body.replace(b"[1, 2]}]", b"[1]}]"), is_stream=False)


@pytest.mark.parametrize(
    ("path", "body", "is_stream"),
    [
        (CHAT, b"{", False),
        (CHAT, b"[]", False),
        (CHAT, b'{"choices": [], "choices": []}', False),
        (CHAT, b'{"choices": [], "a": NaN}', False),
        (CHAT, b"\xff", False),
        (CHAT, b'{"a":' * 9_000, False),
        (RESPONSES, b'{"status": "completed"}', False),
        (RESPONSES, b'{"status": "completed", "output": [{}]}', False),
        (RESPONSES, b'data: {"type": 5}\n\ndata: {"type": "response.completed", "response": {}}\n\n', True),
        (RESPONSES, b"", True),
        ("/embeddings", b'{"data": [{"embedding": [1%b]}]}' % (b"0" * 400), False),
        ("/embeddings", b'{"data": [{"embedding": "%"}]}', False),
        ("/messages", b"{}", False),
    ],
    ids=range(13),
)
def test_what_cannot_be_read_is_not_kept(path: str, body: bytes, is_stream: bool) -> None:
    assert flaw_of(path, {"input": "a"}, body, is_stream=is_stream) == "unreadable"


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        *((b": thinking", None), (b": an Error", "error"), (b"id: 3", None), (b"retry", None), (b"id", None)),
        *((b"an Error", "error"), (b"thinking", "unreadable"), (b"datum: {}", "unreadable")),
    ],
)
def test_a_line_of_a_stream_is_a_field_or_a_comment_on_no_error(line: bytes, flaw: str | None) -> None:
    chunk = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    assert flaw_of(CHAT, {}, line + b"\n" + chunk, is_stream=True) == flaw


def test_an_empty_document_is_no_end_mark() -> None:
    chunk = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    assert flaw_of(CHAT, {}, chunk + b"data: [DONE]\n\n", is_stream=True) is None
    assert flaw_of(CHAT, {}, chunk + b"data: {}\n\n", is_stream=True) == "cut"


@pytest.mark.parametrize(
    ("numbers", "flaw"),
    [
        *(([0, 1, 2], None), ([7, 8, 9], None), ([None, None, None], None)),
        *(([0, 1, 3], "cut"), ([0, 2, 3], "cut"), ([0, 0, 1], "cut"), ([2, 1, 0], "cut"), ([1, 1, 1], "cut")),
        *(([0, None, 2], "cut"), ([0, None, 1], "cut"), ([None, 1, 2], "cut"), ([0, 1, None], "cut")),
        *((["0", "1", "2"], "unreadable"), ([-1, 0, 1], "unreadable"), ([0.0, 1.0, 2.0], "unreadable")),
    ],
)
def test_numbers_of_events_go_up_by_one_or_there_are_none(numbers: list[Any], flaw: str | None) -> None:
    done: dict[str, Any] = {"status": "completed", "output": []}
    kinds = ("response.created", "response.in_progress", "response.completed")
    parts: list[tuple[str, Any]] = [
        (kind, {"type": kind, "response": done} | ({} if number is None else {"sequence_number": number}))
        for kind, number in zip(kinds, numbers, strict=True)
    ]
    assert Made(RESPONSES, {}, parts, True).flaw() == flaw


@pytest.mark.parametrize(
    ("kind", "flaw"),
    [
        *(("keepalive", None), ("ping", None), ("response.in_progress", None), ("other", "unreadable")),
        *(("response.failed", "error"), ("response.incomplete", "unended"), ("response.cancelled", "error")),
        ("response.completed", "unended"),
    ],
)
def test_a_response_ends_once_and_says_nothing_of_another_end(kind: str, flaw: str | None) -> None:
    made = response(random.Random(7), True)
    parts = [
        (name, {key: value for key, value in said.items() if key != "sequence_number"}) for name, said in made.parts
    ]
    assert made.with_parts(parts).flaw() is None
    assert made.with_parts([*parts[:-1], ("", {"type": kind}), parts[-1]]).flaw() == flaw


@pytest.mark.parametrize("ends", list(product(("\n", "\r\n", "\r"), repeat=2)), ids=repr)
def test_the_last_event_ends_with_any_two_line_ends(ends: tuple[str, str]) -> None:
    chunk = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]'
    flaw = "cut" if ends == ("\r", "\n") else None  # that is one
    assert flaw_of(CHAT, {}, chunk + "".join(ends).encode(), is_stream=True) == flaw
    assert flaw_of(CHAT, {}, chunk + ends[0].encode(), is_stream=True) == "cut"


def test_a_stream_of_responses_may_end_in_an_end_mark_too() -> None:
    made = response(random.Random(1), True)
    assert made.flaw(made.body + b"data: [DONE]\n\n") is None


def test_a_million_choices_are_no_work() -> None:
    assert flaw_of(CHAT, {"n": 10**12}, written(doc()), is_stream=False) == "unended"
