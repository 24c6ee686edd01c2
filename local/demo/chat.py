"""The demo server's chat completions and (legacy) text completions, in one piece and chunk by chunk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from local.demo.answers import Answer, Question, Tool, answer, limit_of, schema_of, text_of, tool_to_call
from local.demo.checks import check_chat
from local.demo.replies import Body, Events, Json, RefusedError, Reply, list_of, new_id, now, object_of

_MOST_PROMPTS = 20


def messages_of(body: Body) -> list[dict[str, Any]]:
    """The messages of a request, of which there is at least one. Raises RefusedError."""
    messages = [object_of(message) for message in list_of(body["messages"])]
    if not messages or not all(messages):
        raise RefusedError(400, "'messages' is not a list of messages.", "messages")
    return messages


def chat(body: Body, demo: Body) -> Reply:
    """`POST /chat/completions`. A tool is called where the last message asks for it."""
    messages = messages_of(body)
    check_chat(body)
    texts = [text_of(message.get("content")) for message in messages]
    is_asked = messages[-1].get("role") in ("user", "developer", "system", None)
    question = Question(
        model=str(body["model"]),
        texts=texts,
        tool=tool_to_call(_tools(body), body.get("tool_choice"), texts[-1]) if is_asked else None,
        schema=schema_of(body.get("response_format"), "json_schema"),
        limit=limit_of(body, "max_completion_tokens", "max_tokens"),
        stop=_stops(body.get("stop")),
        choices=body.get("n") or 1,
        reasons=body.get("reasoning_effort") not in (None, "none"),
        is_result=messages[-1].get("role") in ("tool", "function"),
    )
    return _reply(Shape(True, new_id("chatcmpl-"), now(), question.model, _logprobs(body)), [question], body, demo)


def completion(body: Body, demo: Body) -> Reply:
    """`POST /completions`. A list of prompts has choices for each of them, in their order."""
    questions = [
        Question(
            model=str(body["model"]),
            texts=[text_of(prompt)],
            limit=limit_of(body, "max_tokens"),
            stop=_stops(body.get("stop")),
            choices=body.get("n") or 1,
        )
        for prompt in _prompts(body["prompt"])
    ]
    shape = Shape(False, new_id("cmpl-"), now(), str(body["model"]), body.get("logprobs"))
    return _reply(shape, questions, body, demo)


def _prompts(prompt: Any) -> list[Any]:
    """Each prompt: a text, or a list of the numbers of tokens. Raises RefusedError."""
    several = list_of(prompt)
    prompts = several if several and isinstance(several[0], str | list) else [prompt]
    if len(prompts) > _MOST_PROMPTS:
        raise RefusedError(400, f"The demo server takes {_MOST_PROMPTS} prompts at a time.", "prompt")
    return prompts


def _tools(body: Body) -> list[Tool]:
    functions = [each["function"] for each in list_of(body.get("tools")) if each.get("type") == "function"]
    return [Tool(each["name"], each.get("parameters", {})) for each in functions]


def _stops(stop: Any) -> list[str]:
    return [stop] if isinstance(stop, str) else [each for each in stop or () if each]


def _logprobs(body: Body) -> int | None:
    return (body.get("top_logprobs") or 0) if body.get("logprobs") else None


def _reply(shape: "Shape", questions: Sequence[Question], body: Body, demo: Body) -> Reply:
    said = [answer(question, demo) for question in questions]
    reports_usage = demo.get("usage", True)
    if body.get("stream"):
        wants_usage = object_of(body.get("stream_options")).get("include_usage") is True
        return Events(shape.chunks(said, include_usage=reports_usage and wants_usage), done=True)
    whole = shape.whole(said)
    if not reports_usage:
        del whole["usage"]
    return Json(whole)


@dataclass(frozen=True, slots=True)
class Shape:
    """How one of OpenAI's two completion endpoints wraps an answer. `created` is in Unix seconds.

    `logprobs` is the number of alternatives told of each token, None when no probabilities are wanted. Whoever repeats
    is certain: each token has the probability 1 and no alternative but itself.
    """

    chat: bool
    id: str
    created: int
    model: str
    logprobs: int | None = None

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The answers to all prompts in one piece, their choices one after the other."""
        body = self._envelope("chat.completion")
        said = [each for each in answers for _ in range(each.choices)]
        choices = [self._whole_choice(index, each) for index, each in enumerate(said)]
        return body | {"choices": choices, "usage": usage_of(*answers)}

    def chunks(self, answers: Sequence[Answer], *, include_usage: bool) -> Iterator[dict[str, Any]]:
        """The answers chunk by chunk; `include_usage` adds one without choices, and `usage: null` to the others."""
        usage = {"usage": None} if include_usage else {}
        envelope = self._envelope("chat.completion.chunk") | usage
        first = 0
        for said in answers:
            for choice in self._pieces(said, first):
                yield envelope | {"choices": [choice]}
            first += said.choices
        if include_usage:
            yield envelope | {"choices": [], "usage": usage_of(*answers)}

    def _pieces(self, answer: Answer, first: int) -> Iterator[dict[str, Any]]:
        everyone = range(first, first + answer.choices)
        if self.chat:
            for index in everyone:
                yield _choice(index, {"delta": {"role": "assistant"} | _first_delta(answer)})
        offset = 0
        for token in answer.tokens:
            for index in everyone:
                yield _choice(index, self._piece(token, answer), self._logprobs((token,), offset, answer))
            offset += len(token)
        for index in everyone:
            end: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
            yield _choice(index, end, finish_reason=_finish_reason(answer))

    def _piece(self, token: str, answer: Answer) -> dict[str, Any]:
        if not self.chat:
            return {"text": token}
        if answer.tool is not None:
            return {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": token}}]}}
        return {"delta": {"content": token}}

    def _whole_choice(self, index: int, answer: Answer) -> dict[str, Any]:
        content: dict[str, Any] = {"text": answer.text}
        if self.chat:
            said: dict[str, Any] = {"content": answer.text}
            if answer.tool is not None:
                call = {"name": answer.tool, "arguments": answer.text}
                said = {"content": None, "tool_calls": [{"id": new_id("call_"), "type": "function", "function": call}]}
            content = {"message": {"role": "assistant", "refusal": None, **said}}
        return _choice(index, content, self._logprobs(answer.tokens, 0, answer), _finish_reason(answer))

    def _logprobs(self, tokens: Sequence[str], offset: int, answer: Answer) -> dict[str, Any] | None:
        if self.logprobs is None or answer.tool is not None:
            return None
        if self.chat:
            certain = [{"token": token, "logprob": 0.0, "bytes": list(token.encode())} for token in tokens]
            only = [{**each, "top_logprobs": [each] if self.logprobs else []} for each in certain]
            return {"content": only, "refusal": None}
        offsets = [offset + sum(len(token) for token in tokens[:index]) for index in range(len(tokens))]
        return {
            "tokens": list(tokens),
            "token_logprobs": [0.0] * len(tokens),
            "top_logprobs": [{token: 0.0} if self.logprobs else {} for token in tokens],
            "text_offset": offsets,
        }

    def _envelope(self, chat_object: str) -> dict[str, Any]:
        kind = chat_object if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage_of(*answers: Answer) -> dict[str, Any]:
    """OpenAI's `usage` object of a completion, for all its prompts together."""
    prompt, completion = (
        sum(each.prompt_tokens for each in answers),
        sum(each.completion_tokens for each in answers),
    )
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(each.cached_tokens for each in answers), "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": sum(each.reasoning_tokens * each.choices for each in answers),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _first_delta(answer: Answer) -> dict[str, Any]:
    if answer.tool is None:
        return {"content": ""}
    call = {"id": new_id("call_"), "type": "function", "function": {"name": answer.tool, "arguments": ""}}
    return {"content": None, "tool_calls": [{"index": 0, **call}]}


def _finish_reason(answer: Answer) -> str:
    if answer.is_cut:
        return "length"
    return "tool_calls" if answer.tool is not None else "stop"


def _choice(
    index: int, content: dict[str, Any], logprobs: dict[str, Any] | None = None, finish_reason: str | None = None
) -> dict[str, Any]:
    return {"index": index, **content, "logprobs": logprobs, "finish_reason": finish_reason}
