"""Estimates tokens where no server has counted them: for a stream that was cut, or a server without usage. Pure.

About four bytes of UTF-8 make a token of English (https://platform.openai.com/tokenizer); each message has a few of its
own. Its one rule: an estimate is marked as one (`usage.source: estimated`), and never replaces a reported figure.
"""

import math
from collections.abc import Iterator
from typing import Any

from openai_proxy.usage import Usage

from proxy.json_shapes import array_of, loads_or_none, object_of
from proxy.metering.sse import data_of, split_events

ESTIMATED_PATHS = frozenset({"/chat/completions", "/completions", "/embeddings", "/responses", "/messages"})
_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_FILE = 800
"""About what a picture of middling size costs; its base64 says nothing of its tokens."""
_LONGEST_WORD = 1024
"""What has no blank for so long is a file in base64, where a file may be."""
_FILES = frozenset(
    {"data", "url", "image_url", "video_url", "file_url", "file_data", "image_data", "image", "audio", "video", "bytes"}
)
"""Fields of a request in which a file may be. A text is as long as it is, whatever it looks like."""
_PROMPT_FIELDS = (
    *("messages", "system", "prompt", "input", "instructions"),
    *("tools", "functions", "response_format", "text"),
)
_ANSWER_FIELDS = ("choices", "output", "delta", "item", "content")
_NAMES_NOT_TEXT = frozenset(
    {
        *("id", "role", "type", "object", "finish_reason", "status", "obfuscation", "item_id", "logprobs", "error"),
        *("stop_reason", "stop_sequence", "signature"),
    }
)


def estimated_usage(request_body: bytes, sample: bytes, factor: float, *, is_stream: bool) -> Usage:
    """The usage of an answer of which `sample` is the beginning, and which is `factor` times as long."""
    return Usage(
        input_tokens=input_tokens(object_of(loads_or_none(request_body))),
        output_tokens=math.ceil(_output_tokens(sample, is_stream=is_stream) * factor),
        source="estimated",
    )


def input_tokens(fields: dict[str, Any]) -> int:
    """About how many tokens the prompt of a request body is."""
    prompt = [fields.get(name) for name in _PROMPT_FIELDS]
    size = sum(_size(text, may_be_file=name in _FILES) for name, text in _texts(prompt))
    messages = max(len(array_of(fields.get("messages"))), 1)
    return math.ceil(size / _BYTES_PER_TOKEN) + _TOKENS_PER_MESSAGE * messages


def _output_tokens(sample: bytes, *, is_stream: bool) -> int:
    documents = [data_of(event) for event in split_events(sample)] if is_stream else [sample]
    size = events = 0
    for document in documents:
        fields = object_of(loads_or_none(document))
        if is_stream and not str(fields.get("type", "delta")).endswith("delta"):
            continue  # the Responses API repeats at the end what it has streamed
        found = sum(_size(text, may_be_file=True) for _, text in _texts([fields.get(name) for name in _ANSWER_FIELDS]))
        size += found
        events += bool(found)
    return max(math.ceil(size / _BYTES_PER_TOKEN), events if is_stream else 0)


def _size(text: str, *, may_be_file: bool) -> int:
    if not may_be_file:
        return len(text.encode(errors="replace"))
    beginning = text[:_LONGEST_WORD]
    if text.startswith("data:") or (len(beginning) == _LONGEST_WORD and beginning.isascii() and " " not in beginning):
        return _TOKENS_PER_FILE * _BYTES_PER_TOKEN
    return len(text.encode(errors="replace"))


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value that a model reads or writes, with the name of its field; an array of tokens gives one
    word for each token.
    """
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, list):
            numbers = [item for item in array_of(value) if isinstance(item, int | float)]
            yield "", "0000" * len(numbers)
            waiting += ((name, item) for item in array_of(value) if not isinstance(item, int | float))
        elif isinstance(value, dict):
            fields = object_of(value)
            is_text = fields.get("type") == "text"  # Anthropic's documents may have a plain text in `data`
            named = ((name, item) for name, item in fields.items() if name not in _NAMES_NOT_TEXT)
            waiting += (("" if is_text else name, item) for name, item in named)
