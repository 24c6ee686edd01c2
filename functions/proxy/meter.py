"""What one answer used and said of itself: tokens, model, id, finish reasons. Pure; it reads what passes, no more.

Most chunks carry text and nothing to meter. A regular expression tells them from those that do, and only the latter
are parsed, so metering costs a fraction of relaying. The expressions look for keys of JSON objects; generated text
cannot imitate them, because inside a JSON string every quote is escaped.
"""

import re
from collections.abc import Mapping
from typing import Any

from openai_proxy.usage import Usage

from proxy.json_shapes import array_of, count_of, loads_or_none, object_of
from proxy.sse import data_of, split_events

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_WORTH_READING = re.compile(rb'"usage"\s*:\s*\{|"(?:finish_reason|status)"\s*:\s*"')
_MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""A JSON answer larger than this is relayed and not read: its usage is `missing`, and memory stays bounded."""


class Meter:
    """Sees every chunk of one answer's body, then knows its `usage`, `model`, `id` and `finish_reasons`."""

    def __init__(self, content_type: str, uses_tokens: bool) -> None:
        self.model: str | None = None
        self.id: str | None = None
        self.finish_reasons: list[str] = []
        self.chunks = 0
        self.size = 0
        self._uses_tokens = uses_tokens
        self._usage: Usage | None = None
        self.is_stream = content_type.startswith("text/event-stream")
        self._is_json = content_type.startswith("application/json")
        self._identified = False
        self._document = bytearray()

    def see(self, chunk: bytes) -> None:
        """Take note of one chunk of the body: of a stream, one or more whole events."""
        self.chunks += 1
        self.size += len(chunk)
        if self.is_stream:
            if not self._identified or _WORTH_READING.search(chunk):
                self._see_events(split_events(chunk))
        elif self._is_json and self.size <= _MAX_DOCUMENT_BYTES:
            self._document += chunk

    def end(self) -> None:
        """The body has ended: read what can only be read whole."""
        if self._is_json and self.size <= _MAX_DOCUMENT_BYTES:
            self._read(loads_or_none(self._document))
        self._document.clear()

    @property
    def usage(self) -> Usage:
        """The tokens that the server reported; without a report `missing`, or `none` where the operation uses none."""
        return self._usage or Usage(source="missing" if self._uses_tokens else "none")

    def _see_events(self, events: list[bytes]) -> None:
        for event in events:
            if not self._identified or _WORTH_READING.search(event):
                self._read(loads_or_none(data_of(event)))

    def _read(self, document: Any) -> None:
        """Read a whole JSON answer, or one event of a stream; the Responses API wraps its answer in `response`."""
        fields = object_of(document)
        fields = object_of(fields.get("response")) or fields
        if isinstance(model := fields.get("model"), str):
            self.model = model
            self._identified = True
        if isinstance(identifier := fields.get("id"), str):
            self.id = identifier
        self.finish_reasons += _finish_reasons(fields)
        self._usage = usage_of(fields.get("usage")) or self._usage


def _finish_reasons(fields: Mapping[str, Any]) -> list[str]:
    reasons = [object_of(choice).get("finish_reason") for choice in array_of(fields.get("choices"))]
    if fields.get("object") == "response" and fields.get("status") != "in_progress":
        reasons.append(fields.get("status"))
    return [reason for reason in reasons if isinstance(reason, str)]


def usage_of(usage: Any) -> Usage | None:
    """A `usage` object of any OpenAI endpoint as `Usage`; None when it is not one.

    Chat says prompt_tokens and completion_tokens, Responses and images input_tokens and output_tokens; details hold
    the cached and reasoning shares (https://platform.openai.com/docs/api-reference).
    """
    fields = object_of(usage)
    if not any(name in fields for name in ("prompt_tokens", "input_tokens", "total_tokens")):
        return None
    input_tokens = count_of(fields.get("prompt_tokens")) or count_of(fields.get("input_tokens"))
    output_tokens = count_of(fields.get("completion_tokens")) or count_of(fields.get("output_tokens"))
    input_details = object_of(fields.get("prompt_tokens_details") or fields.get("input_tokens_details"))
    output_details = object_of(fields.get("completion_tokens_details") or fields.get("output_tokens_details"))
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_input_tokens=min(count_of(input_details.get("cached_tokens")), input_tokens),
        cache_creation_input_tokens=min(count_of(input_details.get("cache_creation_tokens")), input_tokens),
        reasoning_output_tokens=min(count_of(output_details.get("reasoning_tokens")), output_tokens),
        source="reported",
    )


def without_usage_chunk(events: bytes) -> bytes:
    """`events` without the chunk that reports usage and nothing else: for a client that did not ask for it.

    A last chunk that has usage *and* choices stays: it carries content.
    """
    if not _USAGE.search(events):
        return events
    return b"".join(event for event in split_events(events) if not _is_usage_chunk(event))


def _is_usage_chunk(event: bytes) -> bool:
    return bool(_USAGE.search(event)) and object_of(loads_or_none(data_of(event))).get("choices") == []
