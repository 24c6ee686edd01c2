"""What the demo server answers: OpenAI's objects, made from the request and from nothing else. Pure.

Its one rule: it never pretends to be a model. An answer says that it is a demonstration and repeats what it was sent.
"""

import base64
import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MODELS = (
    "demo",
    "demo-slow",
    "demo-reasoning",
    "demo-no-usage",
    "demo-error-429",
    "demo-error-500",
    "demo-cut",
    "demo-hang",
    "demo-not-json",
)

SILENCE = (
    b"RIFF" + struct.pack("<I", 36 + 800) + b"WAVEfmt " + struct.pack("<IHHIIHHI", 16, 1, 1, 8000, 8000, 1, 8, 800)
)
"""What the demo server says aloud."""

_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")
_REPEATED_TOKENS = 40
_CACHED_FROM_TOKENS = 1024
_REASONING_TOKENS = 16
_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its tokens as they are streamed, and what it used."""

    tokens: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    reasoning_tokens: int

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.tokens)

    def usage(self) -> dict[str, Any]:
        """OpenAI's `usage` object of a chat completion. Reasoning is part of the completion's tokens."""
        completion = len(self.tokens) + self.reasoning_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def tokenize(text: str) -> list[str]:
    """Words and punctuation marks, each with the white space before it: near enough to tokens."""
    return _TOKEN.findall(text)


def answer_chat(body: Mapping[str, Any], demo: Mapping[str, Any]) -> Answer:
    """The answer to a chat completion. `demo` may set the numbers of tokens, reasoning_tokens and cached_tokens."""
    texts = [_text_of(message.get("content")) for message in body.get("messages", [])]
    return _answer(texts, body, demo)


def answer_completion(body: Mapping[str, Any], demo: Mapping[str, Any]) -> Answer:
    """The answer to a (legacy) text completion."""
    return _answer([_text_of(body.get("prompt"))], body, demo)


def _answer(texts: list[str], body: Mapping[str, Any], demo: Mapping[str, Any]) -> Answer:
    prompt_tokens = sum(len(tokenize(text)) for text in texts)
    tokens = tokenize(f"This is the demo server, not a model: it repeats what you send. {texts[-1] if texts else ''}")
    wanted = demo.get("tokens", min(len(tokens), 14 + _REPEATED_TOKENS))
    tokens = [tokens[index % len(tokens)] for index in range(wanted)]
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    too_long = isinstance(limit, int) and limit < len(tokens)
    reasons = str(body.get("model")) == "demo-reasoning" or body.get("reasoning_effort") is not None
    # OpenAI's prompt cache works from 1,024 tokens on; here such a prompt's beginning always counts as cached.
    cached = _CACHED_FROM_TOKENS if prompt_tokens >= _CACHED_FROM_TOKENS else 0
    return Answer(
        tokens=tuple(tokens[:limit] if too_long else tokens),
        finish_reason="length" if too_long else "stop",
        prompt_tokens=prompt_tokens,
        cached_tokens=demo.get("cached_tokens", cached),
        reasoning_tokens=demo.get("reasoning_tokens", _REASONING_TOKENS if reasons else 0),
    )


def _text_of(content: Any) -> str:
    """The text in a message's content: a text, or a list of parts or texts."""
    if isinstance(content, str):
        return content
    parts: list[Any] = content if isinstance(content, list) else []  # pyright: ignore[reportUnknownVariableType]
    return " ".join(part if isinstance(part, str) else str(part.get("text", "")) for part in parts)


@dataclass(frozen=True, slots=True)
class Shape:
    """How one of OpenAI's two completion endpoints wraps an answer. `created` is in Unix seconds."""

    chat: bool
    id: str
    created: int
    model: str

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer in one piece."""
        content = {"message": {"role": "assistant", "content": answer.text, "refusal": None}}
        choice = content if self.chat else {"text": answer.text}
        body = self._envelope("chat.completion", "text_completion")
        return body | {"choices": [self._choice(choice, answer.finish_reason)], "usage": answer.usage()}

    def chunks(self, answer: Answer, *, include_usage: bool) -> Iterator[dict[str, Any]]:
        """The answer chunk by chunk; `include_usage` adds one without choices, and `usage: null` to the others."""
        usage = {"usage": None} if include_usage else {}
        envelope = self._envelope("chat.completion.chunk", "text_completion")
        if self.chat:
            yield envelope | {"choices": [self._choice({"delta": {"role": "assistant", "content": ""}}, None)]} | usage
        for token in answer.tokens:
            piece = {"delta": {"content": token}} if self.chat else {"text": token}
            yield envelope | {"choices": [self._choice(piece, None)]} | usage
        end: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        yield envelope | {"choices": [self._choice(end, answer.finish_reason)]} | usage
        if include_usage:
            yield envelope | {"choices": [], "usage": answer.usage()}

    def _envelope(self, chat_object: str, text_object: str) -> dict[str, Any]:
        kind = chat_object if self.chat else text_object
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    @staticmethod
    def _choice(content: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        return {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}


def embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    """A list of embeddings: unit vectors that depend on the text alone, as numbers or (as SDKs ask) as base64."""
    given: Any = body.get("input", "")
    texts: list[str] = [str(each) for each in given] if isinstance(given, list) else [str(given)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    vectors = [_unit_vector(text) for text in texts]
    as_base64 = body.get("encoding_format") == "base64"
    data = [base64.b64encode(struct.pack(f"<{len(each)}f", *each)).decode() if as_base64 else each for each in vectors]
    tokens = sum(len(tokenize(text)) for text in texts)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(data)],
        "model": body.get("model"),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _unit_vector(text: str) -> list[float]:
    raw = [zlib.crc32(f"{axis}{text}".encode()) / 2**32 - 0.5 for axis in range(_DIMENSIONS)]
    length = math.sqrt(sum(value * value for value in raw))
    return [value / length for value in raw]


def model(name: str) -> dict[str, Any]:
    """OpenAI's model object."""
    return {"id": name, "object": "model", "created": 1700000000, "owned_by": "demo"}


def error(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
