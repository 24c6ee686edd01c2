"""Answers of every kind that may be kept, spoiled in every kind of place: the truth is known from how each was made.

`plain` is what a good server sends, with all that is harmless and looks bad. A spoiler makes one thing of it wrong.
Each answer is made from its number, so that a failure comes again.
"""

import base64
import copy
import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proxy.metering.whole_answer import flaw_of

from tests.examples import examples

CHAT, TEXT, RESPONSES, EMBEDDINGS = "/chat/completions", "/completions", "/responses", "/embeddings"
WRITTEN = [
    "Hi",
    "error",
    '{"error": 1}',
    "data: [DONE]\n\n",
    "[DONE]",
    "é\u2028",
    "content_filter",
    "event: error\n",
    "𝄞",
    "",
]
HARMLESS: list[tuple[str, Any]] = [
    ("error", None),
    ("errors", []),
    ("error_code", 0),
    ("x_error", ""),
    ("blocked", False),
    ("flagged", 0),
    ("content_filter_results", {"hate": {"filtered": False, "severity": "safe"}}),
    ("citations", []),
    ("incomplete_details", None),
    ("input_sensitive", False),
    ("service_tier", "default"),
    ("truncated", False),
    ("native_finish_reason", "STOP"),
    ("search_results", None),
]
ERRORS: list[tuple[str, Any]] = [
    ("error", "overloaded"),
    ("error", {"message": "x"}),
    ("Error", [1]),
    ("errorMessage", "x"),
    ("error_code", 17),
    ("last_error", {"code": "x"}),
    ("upstreamError", "x"),
    ("exception", "ValueError"),
    ("failure", {"a": 1}),
    ("status", "failed"),
    ("status", "error"),
    ("type", "error"),
    ("object", "error"),
    ("state", "cancelled"),
]
FILTERS: list[tuple[str, Any]] = [
    ("filtered", True),
    ("is_filtered", True),
    ("blocked", True),
    ("flagged", True),
    ("block_reason", "SAFETY"),
    ("finish_reason", "content_filter"),
    ("stop_reason", "content_filtered"),
    ("finishReason", "PROHIBITED"),
    ("native_finish_reason", "SAFETY"),
    ("output_sensitive", True),
    ("stopReason", "guardrail_intervened"),
    ("content_filter_results", {"self_harm": {"filtered": True}}),
    ("truncated", True),
]
SEARCHES: list[tuple[str, Any]] = [
    ("citations", ["https://a"]),
    ("annotations", [{"type": "url_citation"}]),
    ("search_results", [{"url": "a"}]),
    ("groundingMetadata", {"a": 1}),
    ("executed_tools", [{"type": "search"}]),
]
BAD_NAMES = ["error", "Error", "response.error", "response.failed", "content_filter", "moderation_blocked", "aborted"]
REPEATED = ("tools", "text", "metadata", "schema")


class Made:
    """An answer: `frames` are a document, or the data of the events of a stream; the last may be the end mark."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.fields: dict[str, Any] = {}
        self.path, make = chance.choice(
            [(CHAT, self.chat), (TEXT, self.chat), (RESPONSES, self.response), (EMBEDDINGS, self.vectors)]
        )
        self.is_stream = self.path != EMBEDDINGS and chance.random() < 0.6
        self.names: dict[int, str] = {}
        self.frames: list[Any] = []
        make()
        for _ in range(chance.randint(0, 2)):
            name, value = chance.choice(HARMLESS)
            chance.choice(self.objects()).setdefault(name, copy.deepcopy(value))

    # ------------------------------------------------------------------------------------------------- what is made

    def words(self) -> list[str]:
        return [self.chance.choice(WRITTEN) for _ in range(self.chance.randint(1, 4))]

    def call(self, index: int) -> dict[str, Any]:
        function = {"name": "look", "arguments": json.dumps({"error": self.chance.choice(WRITTEN), "n": index})}
        return {"index": index, "id": f"call_{index}", "type": "function", "function": function}

    def chat(self) -> None:
        number, is_text = self.chance.randint(1, 4), self.path == TEXT
        if is_text:
            self.fields["prompt"] = self.chance.choice(["a", ["a"], [1, 2], [[1, 2]]])
        if number > 1 or self.chance.random() < 0.5:
            self.fields["n"] = number
        common = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        lines = [self.told(index, is_text) for index in range(number)]
        if not self.is_stream:
            choices = [self.whole(line, is_text) for line in lines]
            self.chance.shuffle(choices)
            self.frames = [{**common, "choices": choices, "usage": {"total_tokens": 3}}]
            return
        while any(lines):
            some = self.chance.sample([line for line in lines if line], 1)
            self.frames.append({**common, "choices": [line.pop(0) for line in some]})
        if self.chance.random() < 0.5:
            self.frames.append({**common, "choices": [], "usage": {"total_tokens": 3}})
        self.frames.append("[DONE]")

    def told(self, index: int, is_text: bool) -> list[dict[str, Any]]:
        """The pieces of one choice."""
        pieces: list[dict[str, Any]] = [
            {"index": index, "text": text} if is_text else {"index": index, "delta": {"content": text}}
            for text in self.words()
        ]
        calls = 0 if is_text else self.chance.choice([0, 0, 1, 2])
        for each in map(self.call, range(calls)):
            arguments = each["function"].pop("arguments")
            cut = self.chance.randint(0, len(arguments))
            first = {**each, "function": {**each["function"], "arguments": arguments[:cut]}}
            rest = {"index": each["index"], "function": {"arguments": arguments[cut:]}}
            pieces += [{"index": index, "delta": {"tool_calls": [part]}} for part in (first, rest)]
        reason = "tool_calls" if calls else self.chance.choice(["stop", "length"])
        end: dict[str, Any] = {"text": ""} if is_text else {"delta": {}}
        return [
            *({**piece, "finish_reason": None} for piece in pieces),
            {"index": index, **end, "finish_reason": reason},
        ]

    @staticmethod
    def whole(pieces: list[dict[str, Any]], is_text: bool) -> dict[str, Any]:
        """The same choice in one."""
        choice = {"index": pieces[0]["index"], "finish_reason": pieces[-1]["finish_reason"]}
        if is_text:
            return {**choice, "text": "".join(piece["text"] for piece in pieces)}
        calls: dict[int, Any] = {}
        for part in (part for piece in pieces for part in piece["delta"].get("tool_calls", ())):
            known = calls.setdefault(part["index"], {**part, "function": {"name": "look", "arguments": ""}})
            known["function"]["arguments"] += part["function"]["arguments"]
        content = "".join(piece["delta"].get("content", "") for piece in pieces)
        return {**choice, "message": {"role": "assistant", "content": content, "tool_calls": list(calls.values())}}

    def response(self) -> None:
        self.fields = {"store": False}
        items: list[dict[str, Any]] = []
        events: list[dict[str, Any]] = []
        for index in range(self.chance.randint(1, 3)):
            texts, place = self.words(), {"output_index": index, "content_index": 0}
            if self.chance.random() < 0.3:
                call = self.call(0)["function"]
                item: dict[str, Any] = {"type": "function_call", "status": "completed", "call_id": "c", **call}
                said = [
                    {
                        "type": "response.function_call_arguments.delta",
                        "output_index": index,
                        "delta": call["arguments"],
                    },
                    {
                        "type": "response.function_call_arguments.done",
                        "output_index": index,
                        "arguments": call["arguments"],
                    },
                ]
            else:
                item = {
                    "type": "message",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "".join(texts)}],
                }
                said = [{"type": "response.output_text.delta", **place, "delta": text} for text in texts]
                said.append({"type": "response.output_text.done", **place, "text": "".join(texts)})
            items.append(item)
            events.append(
                {"type": "response.output_item.added", "output_index": index, "item": {**item, "status": "in_progress"}}
            )
            events += [*said, {"type": "response.output_item.done", "output_index": index, "item": dict(item)}]
        schema = {"properties": {"error": {"type": "string"}}}
        whole = {
            "id": "r",
            "object": "response",
            "status": "completed",
            "error": None,
            "output": items,
            "tools": [{"type": "function", "parameters": schema}],
            "text": {"format": {"schema": schema}},
        }
        if not self.is_stream:
            self.frames = [whole]
            return
        begun = {**whole, "status": "in_progress", "output": []}
        events = [
            {"type": "response.created", "response": begun},
            *events,
            {"type": "response.completed", "response": whole},
        ]
        self.frames = [{**event, "sequence_number": number} for number, event in enumerate(events)]
        self.frames = json.loads(json.dumps(self.frames))
        self.names = {number: event["type"] for number, event in enumerate(self.frames)}

    def vectors(self) -> None:
        given, number = self.chance.choice([("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2], [3]], 3)])
        self.fields, length = {"input": given}, self.chance.randint(1, 5)
        if self.chance.random() < 0.5:
            self.fields["dimensions"] = length
        vectors: list[Any] = [[self.chance.uniform(-1, 1) for _ in range(length)] for _ in range(number)]
        if self.chance.random() < 0.5:
            vectors = [base64.b64encode(struct.pack(f"<{length}f", *each)).decode() for each in vectors]
        data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)]
        self.frames = [{"object": "list", "data": data, "model": "m", "usage": {"total_tokens": 3}}]

    # ---------------------------------------------------------------------------------------------- what is done to it

    def objects(self) -> list[dict[str, Any]]:
        """Every object of the answer that the server wrote itself, at every depth."""
        return [found for frame in self.frames for found in objects_in(frame)]

    def data(self) -> list[Any]:
        return [frame for frame in self.frames if frame != "[DONE]"]

    def body(self, comments: bool = True) -> bytes:
        if not self.is_stream:
            return json.dumps(self.frames[0], ensure_ascii=self.chance.random() < 0.5).encode(errors="surrogatepass")
        end, lines = self.chance.choice(["\n", "\n", "\r\n", "\r"]), list[str]()
        for number, frame in enumerate(self.frames):
            if comments and self.chance.random() < 0.2:
                lines += self.chance.choice([[": ping", ""], [":", ""], ["retry: 3", ""], ["id: 7"]])
            if number in self.names:
                lines.append(f"event: {self.names[number]}")
            text = frame if isinstance(frame, str) else json.dumps(frame, indent=self.chance.choice([None, None, 1]))
            space = self.chance.choice(["", " "])
            lines += [*(f"data:{space}{line}" for line in text.split("\n")), ""]
        return "".join(line + end for line in lines).encode()

    def flaw(self, body: bytes | None = None) -> str | None:
        return flaw_of(self.path, self.fields, self.body() if body is None else body, is_stream=self.is_stream)


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for each in value:  # pyright: ignore[reportUnknownVariableType]
            yield from objects_in(each)
    elif isinstance(value, dict):
        yield value  # pyright: ignore[reportUnknownVariableType]
        for name, each in value.items():  # pyright: ignore[reportUnknownVariableType]
            if name not in REPEATED and name not in ("tool_calls", "function"):
                yield from objects_in(each)


# --------------------------------------------------------------------------------------------------------- the spoilers


def says_so_somewhere(made: Made) -> bytes:
    name, value = made.chance.choice(ERRORS + FILTERS + SEARCHES)
    made.chance.choice(made.objects())[name] = copy.deepcopy(value)
    return made.body()


def says_so_in_an_event_of_its_own(made: Made) -> bytes:
    name, value = made.chance.choice(ERRORS[:9] + FILTERS)
    if not made.is_stream:
        return made.body() + json.dumps({name: value}).encode()
    made.names.clear()
    made.frames.insert(made.chance.randint(0, len(made.frames)), {name: copy.deepcopy(value)})
    return made.body()


def says_so_in_the_name_of_an_event(made: Made) -> bytes:
    if not made.is_stream:
        return says_so_somewhere(made)
    made.names[made.chance.randrange(len(made.frames))] = made.chance.choice(BAD_NAMES)
    return made.body()


def says_so_in_a_line(made: Made) -> bytes:
    line = made.chance.choice([": error: upstream", "error: x", "Internal Server Error", '{"error": "x"}', "data : {}"])
    if not made.is_stream:
        return line.encode() + made.body()
    events = made.body(comments=False)
    return line.encode() + b"\n\n" + events if made.chance.random() < 0.5 else events + line.encode() + b"\n\n"


def cut_anywhere(made: Made) -> bytes:
    body = made.body(comments=False)
    return body[: made.chance.randrange(len(body))]


def cut_behind_an_event(made: Made) -> bytes:
    if not made.is_stream:
        return cut_anywhere(made)
    made.frames = made.frames[: made.chance.randrange(len(made.frames))]
    return made.body()


def cut_behind_what_looks_like_the_end(made: Made) -> bytes:
    body = made.body(comments=False)
    places = [at for at in range(len(body)) if body[:at].endswith(b"[DONE]")]
    return body[: made.chance.choice(places)] if places else cut_anywhere(made)


def with_a_choice_that_is_not_right(made: Made) -> bytes:
    """One too few or too many, one that ends twice or never, one that goes on."""
    if made.path in (RESPONSES, EMBEDDINGS):
        return with_an_item_that_is_not_right(made)
    ends = [choice for frame in made.data() for choice in frame["choices"] if choice.get("finish_reason")]
    end = made.chance.choice(ends)
    kind = made.chance.randrange(4)
    if kind == 0:
        end["finish_reason"] = made.chance.choice([None, "", "end_turn", "unknown", False])
    elif kind == 1:
        end["index"] = made.chance.choice([9, -1, "0", 1.0, None if len(ends) > 1 else 7, True])
    elif kind == 2:
        made.data()[-1]["choices"].append({**end, "text": "a", "delta": {"content": "a"}, "message": {"content": "a"}})
    else:
        made.fields["n"] = made.chance.choice([len(ends) + 1, str(len(ends)), 0, 1.0, True, [1]])
    return made.body()


def with_an_item_that_is_not_right(made: Made) -> bytes:
    chance = made.chance
    if made.path in (CHAT, TEXT):
        return with_a_choice_that_is_not_right(made)
    if made.path == EMBEDDINGS:
        data = made.frames[0]["data"]
        each = chance.choice(data)
        bad: list[Any] = [
            [],
            None,
            "***",
            [0.1, None],
            [0.1, "a"],
            [True],
            [[0.1]],
            [10**400],
            [float("nan")],
            [float("inf")],
            base64.b64encode(struct.pack("<f", float("inf"))).decode(),
            "AAA=",
        ]
        if chance.random() < 0.6:
            each["embedding"] = chance.choice(bad)
        elif chance.random() < 0.5:
            data.append(dict(each))
        else:
            data.remove(each)
        return made.body()
    if not made.is_stream:
        item = chance.choice(made.frames[0]["output"])
        holder, name, value = chance.choice(
            [
                (made.frames[0], "status", "incomplete"),
                (made.frames[0], "incomplete_details", {"reason": "max_output_tokens"}),
                (item, "status", "incomplete"),
                (item, "status", "in_progress"),
                (item, "type", "web_search_call"),
                (item, "type", None),
                (made.frames[0], "output", None),
            ]
        )
        holder[name] = value
        return made.body()
    at = chance.randrange(1, len(made.frames) - 1)
    if chance.random() < 0.5:
        del made.frames[at]
    else:
        made.frames.insert(at, dict(made.frames[at]))
    made.names.clear()
    return made.body()


def with_a_call_that_is_not_whole(made: Made) -> bytes:
    calls = [call["function"] for found in made.objects() for call in found.get("tool_calls") or ()]
    if made.path != CHAT or not calls:
        return says_so_somewhere(made)
    named = [call for call in calls if call.get("name")]
    kind = made.chance.randrange(3)
    if kind == 0:
        made.chance.choice(named)["name"] = ""
    elif kind == 1:
        made.chance.choice([call for call in calls if "arguments" in call])["arguments"] += "\x01"
    else:
        for found in made.objects():
            for call in found.get("tool_calls") or ():
                call["index"] = call["index"] + 1 if made.is_stream else -1
    return made.body()


def with_json_that_readers_differ_about(made: Made) -> bytes:
    frame = made.chance.choice(made.data())
    at = made.frames.index(frame)
    text = json.dumps(frame)
    made.frames[at] = made.chance.choice(
        [
            text[:-1] + ', "x": NaN}',
            text[:-1] + ', "id": "a", "id": "b"}',
            text[:-1] + ",}",
            text + "x",
            "[" + text + "]",
            text[:-1],
        ]
    )
    if made.is_stream:
        return made.body()
    return made.frames[0].encode()


SPOILERS: list[Callable[[Made], bytes]] = [
    says_so_somewhere,
    says_so_in_an_event_of_its_own,
    says_so_in_the_name_of_an_event,
    says_so_in_a_line,
    cut_anywhere,
    cut_behind_an_event,
    cut_behind_what_looks_like_the_end,
    with_a_choice_that_is_not_right,
    with_an_item_that_is_not_right,
    with_a_call_that_is_not_whole,
    with_json_that_readers_differ_about,
]


def test_good_answers_are_kept_whatever_harmless_they_say() -> None:
    for number in range(examples(300)):
        made = Made(random.Random(number))
        assert made.flaw() is None, (number, made.path, made.body())


@pytest.mark.parametrize("spoil", SPOILERS)
def test_an_answer_that_is_spoiled_in_one_place_is_not_kept(spoil: Callable[[Made], bytes]) -> None:
    for number in range(examples(100)):
        made = Made(random.Random(f"{spoil.__name__} {number}"))
        body = spoil(made)
        assert made.flaw(body), (number, made.path, made.fields, body)
