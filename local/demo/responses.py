"""The demo server's Responses API: an answer in one piece, and as OpenAI's full sequence of events.

The events and their order are those of https://platform.openai.com/docs/api-reference/responses-streaming.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from local.demo.answers import (
    Answer,
    Question,
    Tool,
    answer,
    count_tokens,
    limit_of,
    schema_of,
    text_of,
    tokenize,
    tool_to_call,
)
from local.demo.kept.history import Asking, History
from local.demo.kept.shelf import metadata_of
from local.demo.replies import Body, Events, Json, Reply, list_of, new_id, now, object_of

_AS_SENT = ("background", "instructions", "max_output_tokens", "previous_response_id", "reasoning", "tools", "user")
_MOST_SUMMARISED = 50
"""Tokens of what a compaction keeps of the answers."""

Keep = Callable[[dict[str, Any]], None]
"""Takes a finished response, to be asked for later."""


class Responses:
    """What is made below `/responses`, with the `history` that a request may refer to."""

    def __init__(self, history: History) -> None:
        self._history = history

    def respond(self, body: Body, demo: Body) -> Reply:
        """`POST /responses`. A function is called where the last item of the input asks for it."""
        asking = self._history.asking(body)
        question = _question_of(body, asking.items)
        said = answer(question, demo)
        response = _Response(body, question.model, said, asking, reports_usage=demo.get("usage", True))

        def keep(whole: dict[str, Any]) -> None:
            self._history.keep(whole, asking)

        if body.get("stream"):
            return Events(_numbered(response.events(keep)), named=True)
        whole = response.whole()
        keep(whole)
        return Json(whole)

    def count(self, body: Body, _demo: Body) -> Reply:
        """`POST /responses/input_tokens`: as many as the answer's usage would tell."""
        texts = _question_of({"model": "", **body}, self._history.asking(body).items).texts
        return Json({"object": "response.input_tokens", "input_tokens": count_tokens(texts)})

    def compact(self, body: Body, demo: Body) -> Reply:
        """`POST /responses/compact`: the user's messages, then one item that stands for all that was said."""
        items = self._history.asking(body).items
        texts = _question_of(body, items).texts
        summary = " ".join(" ".join(texts).split()[:_MOST_SUMMARISED])
        sealed = base64.b64encode(json.dumps({"summary": summary}).encode()).decode()
        users = [each for each in items if each.get("role") == "user"]
        used = Answer(tokens=tuple(tokenize(summary)), is_cut=False, prompt_tokens=count_tokens(texts))
        compacted = {"id": new_id("cmp_"), "type": "compaction", "encrypted_content": sealed}
        told: dict[str, Any] = {
            "id": new_id("resp_"),
            "object": "response.compaction",
            "created_at": now(),
            "output": [*users, compacted],
        }
        return Json(told | ({"usage": _usage_of(used)} if demo.get("usage", True) else {}))


def _question_of(body: Body, items: Sequence[dict[str, Any]]) -> Question:
    instructions = [body["instructions"]] if body.get("instructions") else []
    functions = [each for each in list_of(body.get("tools")) if each.get("type") == "function"]
    tools = [Tool(each["name"], each.get("parameters", {})) for each in functions]
    texts = [text_of(item.get("content") or item.get("output")) for item in items]
    is_asked = bool(items) and items[-1].get("role") in ("user", "developer", "system")
    return Question(
        model=str(body["model"]),
        texts=[*instructions, *texts],
        tool=tool_to_call(tools, body.get("tool_choice"), texts[-1]) if is_asked else None,
        schema=schema_of(object_of(body.get("text")).get("format"), ""),
        limit=limit_of(body, "max_output_tokens"),
        reasons=object_of(body.get("reasoning")).get("effort") not in (None, "none"),
        is_result=bool(items) and str(items[-1].get("type")).endswith("_output"),
    )


class _Response:
    """One response: its object, before and after, and its events."""

    def __init__(self, body: Body, model: str, answer: Answer, asking: Asking, *, reports_usage: bool) -> None:
        self._answer = answer
        self._usage = _usage_of(answer) if reports_usage else None
        self._common: dict[str, Any] = {
            "id": new_id("resp_"),
            "object": "response",
            "created_at": now(),
            "model": model,
            "error": None,
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "store": body.get("store", True),
            "temperature": body.get("temperature", 1.0),
            "text": body.get("text") or {"format": {"type": "text"}},
            "tool_choice": body.get("tool_choice") or "auto",
            "top_p": body.get("top_p", 1.0),
            "truncation": body.get("truncation") or "disabled",
            **{name: body.get(name) for name in _AS_SENT},
        }
        self._common["tools"] = body.get("tools") or []
        self._common["metadata"] = metadata_of(body)
        if asking.conversation:
            self._common["conversation"] = {"id": asking.conversation}
        self._ids = (new_id("rs_"), new_id("msg_" if answer.tool is None else "fc_"), new_id("call_"))

    def whole(self) -> dict[str, Any]:
        """The finished response."""
        status = "incomplete" if self._answer.is_cut else "completed"
        reason = {"reason": "max_output_tokens"} if self._answer.is_cut else None
        output = [*self._reasoning(), self._item(self._answer.text, status)]
        return self._object(status, output) | {"incomplete_details": reason, "usage": self._usage}

    def events(self, keep: Keep) -> Iterator[dict[str, Any]]:
        """From `response.created` to `response.completed`, or to `response.incomplete`."""
        begun = self._object("in_progress", [])
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        place = 0
        for item in self._reasoning():
            yield {"type": "response.output_item.added", "output_index": place, "item": item}
            yield {"type": "response.output_item.done", "output_index": place, "item": item}
            place += 1
        yield {"type": "response.output_item.added", "output_index": place, "item": self._item("", "in_progress")}
        yield from self._deltas({"item_id": self._ids[1], "output_index": place})
        whole = self.whole()
        yield {"type": "response.output_item.done", "output_index": place, "item": whole["output"][-1]}
        keep(whole)
        yield {"type": f"response.{whole['status']}", "response": whole}

    def _deltas(self, where: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        text = self._answer.text
        if self._answer.tool is not None:
            for token in self._answer.tokens:
                yield {"type": "response.function_call_arguments.delta", **where, "delta": token}
            done = {"name": self._answer.tool, "arguments": text}
            yield {"type": "response.function_call_arguments.done", **where, **done}
            return
        where = {**where, "content_index": 0}
        yield {"type": "response.content_part.added", **where, "part": _part("")}
        for token in self._answer.tokens:
            yield {"type": "response.output_text.delta", **where, "delta": token, "logprobs": []}
        yield {"type": "response.output_text.done", **where, "text": text, "logprobs": []}
        yield {"type": "response.content_part.done", **where, "part": _part(text)}

    def _object(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._common, "status": status, "incomplete_details": None, "output": output, "usage": None}

    def _reasoning(self) -> list[dict[str, Any]]:
        return [{"id": self._ids[0], "type": "reasoning", "summary": []}] if self._answer.reasoning_tokens else []

    def _item(self, text: str, status: str) -> dict[str, Any]:
        _, item_id, call_id = self._ids
        if self._answer.tool is not None:
            call = {"call_id": call_id, "name": self._answer.tool, "arguments": text}
            return {"id": item_id, "type": "function_call", "status": status, **call}
        content = [] if status == "in_progress" else [_part(text)]
        return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage_of(answer: Answer) -> dict[str, Any]:
    """OpenAI's `usage` object of a response."""
    return {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": answer.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def _numbered(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}
