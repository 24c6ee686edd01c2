"""What one answer used and said of itself: tokens, model, id, finish reasons. Pure; it reads what passes, no more.

Nothing is read while chunks are coming: they are kept, and read many at a time. Most carry text and nothing to meter. A
regular expression tells them from those that do, and only the latter are parsed, so metering costs a fraction of
relaying. The expressions look for keys of JSON objects; generated text cannot imitate them, because inside a JSON
string every quote is escaped.
"""

import re
from collections.abc import Mapping
from typing import Any

from openai_proxy.usage import Usage

from proxy.json_shapes import array_of, loads_or_none, object_of
from proxy.reported_usage import usage_of
from proxy.sse import data_of, end_of_event, find_events

_USAGE = re.compile(rb'"usage"(?:\s|data:)*:(?:\s|data:)*\{')
_FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"')
_FINISH_FORMS = (b'"finish_reason":"', b'"finish_reason": ', b'"finish_reason" ')
_SEQUENCE_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})')
_LONGEST_NAME = 256
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
_READ_BYTES = 64 * 1024
"""How much of a stream is kept before it is read: memory stays bounded."""
_SAMPLE_BYTES = 32 * 1024
"""How much of a stream is kept for good, for an estimate when its server reports no usage."""
_END_BYTES = 2048
"""Where servers say how an answer ended and what it used: in its last few events."""


class Meter:
    """Sees every chunk of one answer's body, then knows its `usage`, `model`, `id` and `finish_reasons`."""

    def __init__(
        self,
        content_type: str,
        uses_tokens: bool,
        *,
        says_its_end: bool = False,
        asked_stream: bool = False,
        hides_usage: bool = False,
    ) -> None:
        self.chunks = 0
        self.size = 0
        # Some servers stream without saying so.
        untold = asked_stream and (not content_type or content_type.startswith("text/plain"))
        self.is_stream = content_type.startswith("text/event-stream") or untold
        self._is_json = content_type.startswith("application/json")
        self._uses_tokens = uses_tokens
        self._says_its_end = says_its_end
        self._hides_usage = hides_usage and self.is_stream
        self._unread: list[bytes] = []
        self._unread_before: list[tuple[list[bytes], dict[str, Any]]] = []
        """What came before `_unread`: each time up to a usage chunk that was hidden from the client, and that chunk."""
        self._read_at = _READ_BYTES
        self._run = self._sample = b""
        self._document = bytearray()
        self._model: str | None = None
        self._id: str | None = None
        self._finish_reasons: list[str] = []
        self._usage: Usage | None = None
        self._background_since: float | None = None
        self._has_error = self._is_queued = self._known_form = self._has_data = self._is_done = False
        self._identified = False
        self._events_read = 0

    def see(self, chunk: bytes) -> bytes:
        """Take note of one chunk of the body: of a stream, one or more whole events. Returns what the client gets."""
        if self._hides_usage and (usage := _USAGE.search(chunk)):
            return self._see_and_hide(chunk, usage.start())
        self.chunks += 1
        self.size += len(chunk)
        if self.is_stream:
            self._unread.append(chunk)
            if self.size >= self._read_at:
                self._read_unread()
        elif self._is_json and self.size <= _MAX_DOCUMENT_BYTES:
            self._document += chunk
        return chunk

    def _see_and_hide(self, events: bytes, since: int) -> bytes:
        """`see` without the chunk that reports usage and nothing else: for a client that did not ask for it.

        A last chunk that has usage *and* choices stays: it carries content. Before `since` there is no usage.
        """
        visible: list[bytes] = []
        position = 0
        for start, end in find_events(_USAGE, events, since):
            fields = object_of(loads_or_none(data_of(events[start:end])))
            if object_of(fields.get("usage")) and not fields.get("choices"):
                visible.append(events[position:start])
                self._unread.append(visible[-1])
                self._unread_before.append((self._unread, fields))
                self._unread = []
                position = end
        self.chunks += 1
        self.size += len(events)
        self._unread.append(rest := events[position:])
        self._has_data = True
        if self.size >= self._read_at:
            self._read_unread()
        return b"".join([*visible, rest]) if visible else events

    def end(self) -> None:
        """The body has ended: read what can only be read whole."""
        if self._is_json and self.size <= _MAX_DOCUMENT_BYTES:
            self._read(loads_or_none(self._document))

    @property
    def model(self) -> str | None:
        """The model that answered, as the server calls it."""
        self._read_unread()
        return self._model

    @property
    def id(self) -> str | None:
        """The server's id of the answer."""
        self._read_unread()
        return self._id

    @property
    def finish_reasons(self) -> list[str]:
        """Why each choice of the answer ended, as far as they did."""
        self._read_unread()
        return self._finish_reasons

    @property
    def has_error(self) -> bool:
        """Whether the server put an error into the stream, or into an answer that it calls a success."""
        self._read_unread()
        return self._has_error

    @property
    def is_queued(self) -> bool:
        """Whether the answer is made in the background: its usage is only told to who asks for it later."""
        self._read_unread()
        return self._is_queued

    @property
    def background_since(self) -> float | None:
        """When the answer was begun (Unix seconds), if it was made in the background and everybody may fetch it now."""
        self._read_unread()
        return self._background_since

    @property
    def usage(self) -> Usage:
        """The tokens that the server reported; without a report `missing`, or `none` where the operation uses none."""
        self._read_unread()
        return self._usage or Usage(source="missing" if self._uses_tokens else "none")

    @property
    def next_sequence_number(self) -> int:
        """That of the next event of a Responses stream."""
        self._read_unread()
        numbers = _SEQUENCE_NUMBER.findall(self._run, max(0, len(self._run) - _READ_BYTES))
        return int(numbers[-1]) + 1 if numbers else 0

    @property
    def is_cut(self) -> bool:
        """Whether a stream of chat or text stopped without saying that it ends: its server broke off cleanly."""
        if not self.is_stream or self.finish_reasons or self.has_error or self._is_done or _has_end_mark(self._run):
            return False
        return self._known_form or (self._says_its_end and not self._has_data)

    @property
    def sample(self) -> tuple[bytes, float]:
        """The beginning of the body, and how many times as long the whole is."""
        self._read_unread()
        if self._is_json:
            return bytes(self._document), 1.0
        return self._sample, self.size / len(self._sample) if self._sample else 1.0

    def _read_unread(self) -> None:
        """Read what was kept since the last time."""
        for chunks, hidden in self._unread_before:
            self._read_run(chunks, hidden)
        self._unread_before.clear()
        if self._unread:
            self._read_run(self._unread)
            self._unread = []
        self._read_at = self.size + _READ_BYTES

    def _read_run(self, chunks: list[bytes], hidden: dict[str, Any] | None = None) -> None:
        """Read a run of chunks, and the usage chunk that was taken out of its end."""
        if self._run and not (self._is_done or self._finish_reasons):
            self._is_done = _has_end_mark(self._run)
        self._run = run = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if not self._sample:
            self._sample = run if len(run) <= _SAMPLE_BYTES else run[: run.rfind(b"\n", 0, _SAMPLE_BYTES) + 1]
        if self._read_its_end(run, hidden):
            return
        position = self._identify(run)
        for start, end in find_events(_WORTH_READING, run, position):
            self._read(loads_or_none(data_of(run[start:end])))
        if hidden:
            self._events_read += 1
            self._read(hidden)

    def _read_its_end(self, run: bytes, hidden: dict[str, Any] | None) -> bool:
        """Read only the last events of a chat, when nothing before them can matter: most streams are read so."""
        since = run.rfind(b"\n\n", 0, max(0, len(run) - _END_BYTES)) + 2
        if since < 2 or not (finish := _FINISH_REASON.search(run, since)):
            return False
        begin = finish.start()
        if not hidden:
            if not (usage := _USAGE.search(run, since)):
                return False
            begin = min(begin, usage.start())
        if run.rfind(b'"error"') >= 0 or run.rfind(b'"status"') >= 0 or _is_finished(run, since):
            return False
        before = self._finish_reasons.copy(), self._usage, self._identified
        self._usage = None
        for start, end in find_events(_WORTH_READING, run, begin):
            self._read(loads_or_none(data_of(run[start:end])))
        if hidden:
            self._read(hidden)
        if self._usage and self._model is not None and self._finish_reasons != before[0]:
            return True
        self._finish_reasons, self._usage, self._identified = before
        return False

    def _identify(self, run: bytes) -> int:
        """Read one event after the other until one has said who answers. Returns where the next begins."""
        position = 0
        while not self._identified and position < len(run):
            end = end_of_event(run, position)
            self._events_read += 1
            data = data_of(run[position:end])
            self._has_data = self._has_data or bool(data)
            self._read(loads_or_none(data))
            position = end
        return position

    def _read(self, document: Any) -> None:
        """Read a whole JSON answer, or one event of a stream; the Responses API wraps its answer in `response`."""
        fields = object_of(document)
        answer = object_of(fields.get("response"))
        self._has_error = self._has_error or bool(object_of(fields.get("error")) or object_of(answer.get("error")))
        fields = answer or fields
        if (model := fields.get("model")) and isinstance(model, str):
            self._model = model[:_LONGEST_NAME]
        if (identifier := fields.get("id")) and isinstance(identifier, str):
            self._id = identifier[:_LONGEST_NAME]
        self._identified = self._model is not None or self._events_read >= _IDENTIFIED_AFTER
        self._known_form = self._known_form or fields.get("object") in _FORMS_WITH_AN_END
        self._finish_reasons += _finish_reasons(fields)
        if self._uses_tokens:
            # Groq, unless it is asked for usage as OpenAI is, puts it beside its own facts.
            reported = fields.get("usage") or object_of(fields.get("x_groq")).get("usage")
            usage = usage_of(reported)
            if usage and (usage.input_tokens or usage.output_tokens or usage.duration is not None):
                self._usage = usage  # nothing but zeros is no report
            self._is_queued = fields.get("status") == "queued"
            if fields.get("background") is True and fields.get("status") in _ENDED:
                began = fields.get("created_at")
                self._background_since = began if isinstance(began, int | float) else None


def _is_finished(run: bytes, end: int) -> bool:
    """Whether a choice has a finish reason before `end`. Backwards, what is not there is known much faster."""
    if b"\t" not in run and b"\r" not in run and all(run.rfind(form, 0, end) < 0 for form in _FINISH_FORMS):
        return False
    return _FINISH_REASON.search(run, 0, end) is not None


def _has_end_mark(chunk: bytes) -> bool:
    return any(data_of(chunk[start:end]).strip() == _DONE for start, end in find_events(_END_MARK, chunk))


def _finish_reasons(fields: Mapping[str, Any]) -> list[str]:
    reasons = [object_of(choice).get("finish_reason") for choice in array_of(fields.get("choices"))]
    if fields.get("object") == "response" and fields.get("status") in _ENDED:
        reasons.append(fields.get("status"))
    return [reason[:_LONGEST_NAME] for reason in reasons if isinstance(reason, str)]
