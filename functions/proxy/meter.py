"""What one answer used and said of itself: tokens, model, id, finish reasons. Pure; it reads what passes, no more.

Most chunks carry text and nothing to meter. A regular expression tells them from those that do, and only the latter
are parsed, so metering costs a fraction of relaying. The expressions look for keys of JSON objects; generated text
cannot imitate them, because inside a JSON string every quote is escaped.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from openai_proxy.usage import Usage

from proxy.json_shapes import array_of, count_of, loads_or_none, object_of
from proxy.sse import data_of, end_of_event, find_events

_USAGE = re.compile(rb'"usage"(?:\s|data:)*:(?:\s|data:)*\{')
_SEQUENCE_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})')
_LONGEST_NAME = 256
_LONGEST_DURATION = 1e9
_WORTH_READING = re.compile(
    # Written so that it begins with one certain byte: then the search is twice as fast.
    # Between two tokens of JSON there may be blanks, and a new line of data.
    rb'"(?:(?:usage|error)"(?:\s|data:)*:(?:\s|data:)*\{|(?:finish_reason|status)"\s*:\s*")'
)
_DONE = b"[DONE]"
_END_MARK = re.compile(re.escape(_DONE))
_FORMS_WITH_AN_END = frozenset({"chat.completion.chunk", "text_completion", "response"})
_ENDED = frozenset({"completed", "incomplete", "failed", "cancelled"})
_IDENTIFIED_AFTER = 8
"""Events read in search of the model's name: some formats never say it."""
_MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""A JSON answer larger than this is relayed and not read: its usage is `missing`, and memory stays bounded."""
_SAMPLE_BYTES = 32 * 1024
"""How much of a stream is kept, for an estimate when its server reports no usage."""


def find_news(chunk: bytes) -> int | None:
    """Where there is anything to meter, or to hide, in a chunk for the first time. Most have nothing but text."""
    found = _WORTH_READING.search(chunk)
    return found.start() if found else None


class Meter:
    """Sees every chunk of one answer's body, then knows its `usage`, `model`, `id` and `finish_reasons`."""

    def __init__(
        self, content_type: str, uses_tokens: bool, *, says_its_end: bool = False, asked_stream: bool = False
    ) -> None:
        self.model: str | None = None
        self.id: str | None = None
        self.finish_reasons: list[str] = []
        self.chunks = 0
        self.size = 0
        self.has_error = False
        """The server put an error into the stream, or into an answer that it calls a success."""
        self.is_queued = False
        """The answer is made in the background: its usage is only told to who asks for it later."""
        self._uses_tokens = uses_tokens
        self._usage: Usage | None = None
        # Some servers stream without saying so.
        untold = asked_stream and (not content_type or content_type.startswith("text/plain"))
        self.is_stream = content_type.startswith("text/event-stream") or untold
        self._is_json = content_type.startswith("application/json")
        self._identified = False
        self._events_read = 0
        self._says_its_end = says_its_end
        self._last = b""
        self._known_form = self._has_data = self._is_done = False
        self._sample: list[bytes] = []
        self._sampled = 0
        self._document = bytearray()

    def see(self, chunk: bytes, news: int | None = 0) -> None:
        """Take note of one chunk of the body: of a stream, one or more whole events. `news` as `find_news` says."""
        self.chunks += 1
        self.size += len(chunk)
        if self.is_stream:
            self._last = chunk
            self._is_done = self._is_done or (_DONE in chunk and _has_end_mark(chunk))
            if self.size <= _SAMPLE_BYTES:
                self._sample.append(chunk)
                self._sampled = self.size
            if news is not None or not self._identified:
                self._see_events(chunk, news)
        elif self._is_json and self.size <= _MAX_DOCUMENT_BYTES:
            self._document += chunk

    def end(self) -> None:
        """The body has ended: read what can only be read whole."""
        if self._is_json and self.size <= _MAX_DOCUMENT_BYTES:
            self._read(loads_or_none(self._document))

    @property
    def usage(self) -> Usage:
        """The tokens that the server reported; without a report `missing`, or `none` where the operation uses none."""
        return self._usage or Usage(source="missing" if self._uses_tokens else "none")

    @property
    def next_sequence_number(self) -> int:
        """That of the next event of a Responses stream."""
        numbers = _SEQUENCE_NUMBER.findall(self._last)
        return int(numbers[-1]) + 1 if numbers else 0

    @property
    def is_cut(self) -> bool:
        """Whether a stream of chat or text stopped without saying that it ends: its server broke off cleanly."""
        if not self.is_stream or self.finish_reasons or self.has_error or self._is_done:
            return False
        return self._known_form or (self._says_its_end and not self._has_data)

    @property
    def sample(self) -> tuple[bytes, float]:
        """The beginning of the body, and how many times as long the whole is."""
        if self._is_json:
            return bytes(self._document), 1.0
        return b"".join(self._sample), self.size / self._sampled if self._sampled else 1.0

    def _see_events(self, events: bytes, news: int | None) -> None:
        """Read one event after the other until one has said who answers; of the rest those with news."""
        position = 0
        while not self._identified and position < len(events):
            end = end_of_event(events, position)
            self._events_read += 1
            data = data_of(events[position:end])
            self._has_data = self._has_data or bool(data)
            self._read(loads_or_none(data))
            position = end
        if news is not None:
            for start, end in find_events(_WORTH_READING, events, max(position, news)):
                self._read(loads_or_none(data_of(events[start:end])))

    def _read(self, document: Any) -> None:
        """Read a whole JSON answer, or one event of a stream; the Responses API wraps its answer in `response`."""
        fields = object_of(document)
        answer = object_of(fields.get("response"))
        self.has_error = self.has_error or bool(object_of(fields.get("error")) or object_of(answer.get("error")))
        fields = answer or fields
        if (model := fields.get("model")) and isinstance(model, str):
            self.model = model[:_LONGEST_NAME]
        if (identifier := fields.get("id")) and isinstance(identifier, str):
            self.id = identifier[:_LONGEST_NAME]
        self._identified = self.model is not None or self._events_read >= _IDENTIFIED_AFTER
        self._known_form = self._known_form or fields.get("object") in _FORMS_WITH_AN_END
        self.finish_reasons += _finish_reasons(fields)
        if self._uses_tokens:
            # Groq, unless it is asked for usage as OpenAI is, puts it beside its own facts.
            reported = fields.get("usage") or object_of(fields.get("x_groq")).get("usage")
            usage = usage_of(reported)
            if usage and (usage.input_tokens or usage.output_tokens or usage.duration is not None):
                self._usage = usage  # nothing but zeros is no report
            self.is_queued = fields.get("status") == "queued"


def _has_end_mark(chunk: bytes) -> bool:
    return any(data_of(chunk[start:end]).strip() == _DONE for start, end in find_events(_END_MARK, chunk))


def _finish_reasons(fields: Mapping[str, Any]) -> list[str]:
    reasons = [object_of(choice).get("finish_reason") for choice in array_of(fields.get("choices"))]
    if fields.get("object") == "response" and fields.get("status") in _ENDED:
        reasons.append(fields.get("status"))
    return [reason[:_LONGEST_NAME] for reason in reasons if isinstance(reason, str)]


def usage_of(usage: Any) -> Usage | None:
    """A `usage` object of any OpenAI endpoint as `Usage`; None when it is not one.

    Chat says prompt_tokens and completion_tokens, Responses, images and audio input_tokens and output_tokens; details
    hold the cached, reasoning and audio shares, transcriptions without tokens the seconds of audio
    (https://platform.openai.com/docs/api-reference). What a server counts in its total only belongs to the input where
    it is audio (Mistral's transcriptions), else to the output: Gemini counts thoughts so.
    """
    fields = object_of(usage)
    if fields.get("type") == "duration" and (seconds := _seconds(fields.get("seconds"))) is not None:
        return Usage(duration=seconds, source="reported")
    if not any(name in fields for name in ("prompt_tokens", "input_tokens", "total_tokens")):
        return None
    of_input = _details(fields, "prompt_tokens_details", "input_tokens_details", *_SINGULAR_INPUT)
    of_output = _details(fields, "completion_tokens_details", "output_tokens_details", "output_token_details")
    input_tokens = _first_count(fields, "prompt_tokens", "input_tokens")
    output_tokens = _first_count(fields, "completion_tokens", "output_tokens")
    audio, reasoning = count_of(of_input.get("audio_tokens")), count_of(of_output.get("reasoning_tokens"))
    uncounted = max(0, count_of(fields.get("total_tokens")) - input_tokens - output_tokens)
    if audio > input_tokens or not (input_tokens or output_tokens):
        input_tokens += uncounted
    else:
        output_tokens += uncounted
        reasoning = max(reasoning, uncounted)
    cached = _first_count(of_input, "cached_tokens") or _first_count(fields, *_CACHE_READ)
    written = _first_count(of_input, *_CACHE_WRITTEN) or _first_count(fields, *_CACHE_WRITTEN)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_input_tokens=min(cached, input_tokens),
        cache_creation_input_tokens=min(written, input_tokens),
        reasoning_output_tokens=min(reasoning, output_tokens),
        source="reported",
        input_audio_tokens=min(audio, input_tokens),
        output_audio_tokens=min(count_of(of_output.get("audio_tokens")), output_tokens),
        duration=_seconds(fields.get("prompt_audio_seconds")),
    )


# Names beside OpenAI's, each seen in recorded answers: DeepSeek, Databricks, Perplexity, OpenRouter, Mistral.
_SINGULAR_INPUT = ("input_token_details", "prompt_token_details")
_CACHE_READ = ("prompt_cache_hit_tokens", "cache_read_input_tokens")
_CACHE_WRITTEN = ("cache_creation_tokens", "cache_write_tokens", "cache_creation_input_tokens")


def _first_count(fields: Mapping[str, Any], *names: str) -> int:
    return next((count for name in names if (count := count_of(fields.get(name)))), 0)


def _seconds(value: Any) -> float | None:
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value < _LONGEST_DURATION:
        return None
    return float(value)


def _details(usage: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return object_of(next((usage[name] for name in names if usage.get(name)), None))


def without_usage_chunk(events: bytes, news: int = 0) -> bytes:
    """`events` without the chunk that reports usage and nothing else: for a client that did not ask for it.

    A last chunk that has usage *and* choices stays: it carries content. Nothing stands before `news`.
    """
    kept: list[bytes] = []
    position = 0
    for start, end in find_events(_USAGE, events, news):
        if _is_usage_chunk(events[start:end]):
            kept.append(events[position:start])
            position = end
    return b"".join([*kept, events[position:]]) if kept else events


def _is_usage_chunk(event: bytes) -> bool:
    fields = object_of(loads_or_none(data_of(event)))
    return bool(object_of(fields.get("usage"))) and not fields.get("choices")
