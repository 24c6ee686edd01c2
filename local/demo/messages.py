"""The demo server's Messages API, as Anthropic's: a message in one piece, and as its full sequence of events.

The events and their order are those of https://docs.claude.com/en/docs/build-with-claude/streaming.
"""

from collections.abc import Iterator
from typing import Any

from local.demo.answers import Answer, Question, Tool, answer, count_tokens, limit_of, text_of, tool_to_call
from local.demo.replies import Body, Events, Json, RefusedError, Reply, list_of, new_id, object_of

PATH = "/v1/messages"
_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 529: "overloaded_error"}


def message(body: Body, demo: Body) -> Reply:
    """`POST /messages`. A tool that is to be called is called until its result is in the last message."""
    question = _question_of(body)
    said = _Message(question.model, answer(question, demo), reports_usage=demo.get("usage", True))
    return Events(said.events(), named=True) if body.get("stream") else Json(said.whole())


def count(body: Body, _demo: Body) -> Reply:
    """`POST /messages/count_tokens`."""
    return Json({"input_tokens": count_tokens(_question_of(body).texts)})


def in_own_form(document: dict[str, Any], status: int) -> dict[str, Any]:
    """Anthropic's error object, with what OpenAI's says."""
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": document["error"]["message"]}}


def _question_of(body: Body) -> Question:
    messages = [object_of(each) for each in list_of(body["messages"])]
    if not messages or not all(messages):
        raise RefusedError(400, "messages: not a list of messages", "messages")
    blocks = [object_of(block) for block in list_of(messages[-1].get("content"))]
    tools = [Tool(each["name"], each["input_schema"]) for each in list_of(body.get("tools")) if "input_schema" in each]
    choice = object_of(body.get("tool_choice"))
    is_answered = any(block.get("type") == "tool_result" for block in blocks) or choice.get("type") == "none"
    system = [text_of(body["system"])] if body.get("system") else []
    texts = [_text_of(each.get("content")) for each in messages]
    return Question(
        model=str(body["model"]),
        texts=[*system, *texts],
        tool=None if is_answered else tool_to_call(tools, choice, texts[-1]),
        limit=limit_of(body, "max_tokens"),
        stop=[each for each in list_of(body.get("stop_sequences")) if each],
        reasons=object_of(body.get("thinking")).get("type") in ("enabled", "adaptive"),
    )


def _text_of(content: Any) -> str:
    """The text of a message, and of the results of tools in it."""
    results = (object_of(block).get("content") for block in list_of(content))
    return " ".join(filter(None, [text_of(content), *map(text_of, results)])).strip()


class _Message:
    """One message: its object, and its events."""

    def __init__(self, model: str, answer: Answer, *, reports_usage: bool) -> None:
        self._answer = answer
        self._reports_usage = reports_usage
        self._common: dict[str, Any] = {
            "id": new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": model,
            "stop_sequence": None,
        }

    def whole(self) -> dict[str, Any]:
        """The finished message."""
        content = [block | done for block, done, _ in self._blocks()]
        return {**self._common, "content": content, "stop_reason": self._reason(), **self._usage(whole=True)}

    def events(self) -> Iterator[dict[str, Any]]:
        """From `message_start` to `message_stop`."""
        begun: dict[str, Any] = {**self._common, "content": [], "stop_reason": None, **self._usage(whole=False)}
        yield {"type": "message_start", "message": begun}
        for index, (block, _, deltas) in enumerate(self._blocks()):
            yield {"type": "content_block_start", "index": index, "content_block": block}
            if not index:
                yield {"type": "ping"}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        end = {"stop_reason": self._reason(), "stop_sequence": None}
        yield {"type": "message_delta", "delta": end, **self._usage(whole=True)}
        yield {"type": "message_stop"}

    def _blocks(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]]:
        """Each block as it begins, what is another in the end, and its pieces."""
        answer, thought = self._answer, "I repeat what I am sent."
        if answer.reasoning_tokens:
            signed = {"thinking": thought, "signature": "demo"}
            pieces = [{"type": "thinking_delta", "thinking": thought}, {"type": "signature_delta", "signature": "demo"}]
            yield {"type": "thinking", "thinking": "", "signature": ""}, signed, pieces
        if answer.tool is not None:
            block: dict[str, Any] = {"type": "tool_use", "id": new_id("toolu_"), "name": answer.tool, "input": {}}
            pieces = [{"type": "input_json_delta", "partial_json": token} for token in answer.tokens]
            yield block, {"input": answer.arguments}, pieces
        else:
            pieces = [{"type": "text_delta", "text": token} for token in answer.tokens]
            yield {"type": "text", "text": ""}, {"text": answer.text}, pieces

    def _reason(self) -> str:
        if self._answer.is_cut:
            return "max_tokens"
        return "end_turn" if self._answer.tool is None else "tool_use"

    def _usage(self, *, whole: bool) -> dict[str, Any]:
        """Anthropic's `usage`: what is read from its cache is not part of `input_tokens`."""
        if not self._reports_usage:
            return {}
        answer = self._answer
        usage: dict[str, Any] = {
            "input_tokens": max(0, answer.prompt_tokens - answer.cached_tokens),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": answer.cached_tokens,
            "output_tokens": answer.completion_tokens if whole else 1,
        }
        if whole and answer.reasoning_tokens:
            usage["output_tokens_details"] = {"thinking_tokens": answer.reasoning_tokens}
        return {"usage": usage}
