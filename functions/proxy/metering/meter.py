"""What one answer used and says of itself: tokens, model, id, finish reasons. Pure: it only reads what passes.

Chunks are kept as they come, and read many at a time. Most have nothing to meter: `scan` finds those that do, and only
these are parsed, so metering costs a fraction of relaying.
"""

from typing import Any, NamedTuple

from openai_proxy.usage import Usage

from proxy import json_shapes
from proxy.json_shapes import is_one_of, loads_or_none, object_of, text_of
from proxy.metering import scan
from proxy.metering.reported_error import ReportedError, error_of_event, reported_error
from proxy.metering.sse import BLANK, LONGEST_EVENT, data_of, end_of_event, find_events
from proxy.metering.usage import audio_usage, told_in
from proxy.metering.usage_chunk import UsageChunks

_MOST_FINISH_REASONS = 256
"""More than any request can ask for choices: memory stays bounded."""
_IDENTIFIED_AFTER = 8
"""Events read in search of the model's name: some formats never say it."""
_MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""A JSON answer larger than this is relayed and not read: its usage is `missing`, and memory stays bounded."""
_READ_BYTES = 64 * 1024
"""How much of a stream is kept before it is read: memory stays bounded."""
_SAMPLE_BYTES = 32 * 1024
"""How much of a stream is kept for good, for an estimate when its server reports no usage."""
_TEXT_BYTES = 2048
"""How much of the end of a text is kept: a file of subtitles says there how long its audio is."""


class AnswerTraits(NamedTuple):
    """What is known of an answer before it comes."""

    has_terminator: bool = False  # a stream says where it ends
    hides_usage: bool = False  # a stream's usage chunk is not for the client, who has not asked for it
    one_choice: bool = False
    has_own_form: bool = False  # what is not in OpenAI's form is no error
    is_packed: bool = False  # its content is encoded, so that nobody can read it


class Meter:
    """Sees every chunk of one answer's body, then knows its `usage`, `model`, `id` and `finish_reasons`."""

    service_tier: str | None = None  # as the answer names it; known when its usage is known
    batch_file: str | None = None  # with a batch's answers; "" where the batch names none
    digest: str | None = None  # that tells a batch's answers from others
    # What most answers leave as it is stands here once, not in each meter.
    _model: str | None = None
    _id: str | None = None
    _usage: Usage | None = None
    _background_since: float | None = None
    _error: ReportedError | None = None
    _message: Any = None
    _is_queued = _known_form = _has_data = _is_done = _identified = False

    def __init__(self, content_type: str, uses_tokens: bool, traits: AnswerTraits = AnswerTraits()) -> None:  # noqa: B008
        self.chunks = self.size = self._events_read = 0
        self.is_stream = content_type.startswith("text/event-stream") and not traits.is_packed
        self._is_json = content_type.startswith("application/json") and not traits.is_packed
        self._is_text = uses_tokens and not (self.is_stream or self._is_json or traits.is_packed)
        self.is_readable = self.is_stream or self._is_json
        """Whether an estimate can be made of it: of an answer that is packed, cut or no JSON it would be of nothing."""
        self._uses_tokens, self._says_its_end = uses_tokens, traits.has_terminator
        self._is_question = uses_tokens and not traits.has_own_form
        self._hides_usage = traits.hides_usage and self.is_stream
        # A stream of one choice has one finish reason: the last one in it, however its events are cut into chunks.
        self._one_choice = traits.one_choice and self.is_stream
        self._unread: list[bytes] = []
        self._usage_chunks = UsageChunks(one_choice=self._one_choice)
        self._read_at = _READ_BYTES
        self._run = self._sample = b""
        self._document = bytearray()
        self._finish_reasons: list[str] = []
        self._executed: dict[Any, str] = {}  # the tools that were run, according to the stream
        self.others: list[tuple[str | None, Usage]] = []  # models and what they used: the lines of a batch have several

    def see(self, chunk: bytes) -> bytes:
        """Take note of one chunk of the body; in a stream it holds whole events. Returns what the client gets."""
        visible = chunk
        if self._hides_usage and (tokens := chunk.rfind(scan.TOKENS)) >= 0:
            visible = self._usage_chunks.taken_out(chunk, tokens, None if self._run else self._unread)
        self.chunks += 1
        self.size += len(chunk)
        if self.is_stream:
            self._unread.append(chunk)
            if self.size >= self._read_at:
                self._read_unread()
        elif self._is_json and self.size <= _MAX_DOCUMENT_BYTES:
            self._document += chunk
        elif self._is_text:
            self._document = (self._document + chunk)[-_TEXT_BYTES:]
        return visible

    def end(self, document: Any = None) -> None:
        """The body has ended: read what can only be read whole. `document` is its JSON, where that is known."""
        if self._is_json:
            if document is None and self.size <= _MAX_DOCUMENT_BYTES:
                document = loads_or_none(self._document.lstrip(BLANK))
            self.is_readable = document is not None
            self._error = reported_error(document)
            self._read(document)
        elif self._is_text and (seconds := scan.last_cue(self._document)) is not None:
            self._usage = audio_usage(seconds)._replace(source="estimated")

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
        """Why each choice of the answer ended, for those that did."""
        self._read_unread()
        return self._finish_reasons

    @property
    def error(self) -> ReportedError | None:
        """The error that the server put into the stream, or into an answer that it calls a success: the first one."""
        self._read_unread()
        return self._error

    @property
    def is_queued(self) -> bool:
        """Whether the answer is made in the background: its usage is reported only when it is fetched later."""
        self._read_unread()
        return self._is_queued

    @property
    def background_since(self) -> float | None:
        """When a background answer or a batch was begun (Unix seconds), if it is ready to be fetched."""
        self._read_unread()
        return self._background_since

    @property
    def usage(self) -> Usage:
        """The tokens that the server reported; without a report `missing`, or `none` where the operation uses none."""
        self._read_unread()
        if self._usage is None and self._message and self._uses_tokens:  # it was cut before its output was counted
            self._usage, self.service_tier = told_in({"usage": self._message.usage}, is_whole=False)
        found = self._usage or Usage(source="missing" if self._uses_tokens else "none")
        if not self._executed or found.units:
            return found
        from proxy.metering.units import counted  # noqa: PLC0415  # few servers run tools

        return found._replace(units=counted(self._executed.values()))

    @property
    def is_half_counted(self) -> bool:
        """Whether the usage comes from the beginning of a message, so that its output has not been counted."""
        self._read_unread()
        return self._message is not None and not self._message.is_counted

    @property
    def next_sequence_number(self) -> int:
        """The sequence number that the next event of a Responses stream would have."""
        self._read_unread()
        return scan.next_sequence_number(self._run[-_READ_BYTES:])

    @property
    def is_cut(self) -> bool:
        """Whether a stream of chat or text stopped without its end, though its server closed the connection cleanly."""
        if not self.is_stream or self.error:
            return False
        if self._message:
            return not self._message.is_over
        if any(self.finish_reasons) or self._is_done or scan.has_end_mark(self._run):
            return False
        return self._known_form or (self._says_its_end and not self._has_data)

    @property
    def sample(self) -> tuple[bytes, float]:
        """The beginning of the body, and how many times longer the whole body is."""
        self._read_unread()
        if self._is_json:
            return bytes(self._document), 1.0
        return self._sample, self.size / len(self._sample) if self._sample else 1.0

    def _read_unread(self) -> None:
        """Read what has been kept since the last reading."""
        if self._unread:
            if self._run and not (self._is_done or any(self._finish_reasons)):
                self._is_done = scan.has_end_mark(self._run)
            self._run = run = b"".join(self._unread)  # one chunk needs no copy
            self._unread = []
            if not self._sample:
                self._sample = run if len(run) <= _SAMPLE_BYTES else run[: run.rfind(b"\n", 0, _SAMPLE_BYTES) + 1]
            if self._uses_tokens and run.rfind(scan.EXECUTED) >= 0:
                from proxy.metering.units import executed_in  # noqa: PLC0415  # few servers run tools

                self._executed |= executed_in(run)
            odd, has_names = scan.look_for_odd_events(run)
            if any(self._error_in(run[start:end]) for start, end in odd) or not (
                self._read_what_is_hidden(run, has_names) or self._read_its_end(run, has_names)
            ):
                pattern, start = scan.worth_reading(run, since := self._identify(run), is_message=bool(self._message))
                found = {*find_events(pattern, run, start), *(each for each in odd if each[0] >= since)}
                for start, end in sorted(found):
                    self._read_event(run[start:end])
            if self._uses_tokens and run.rfind(scan.TIER) >= 0:
                self._note_tier(scan.last_other_tier(run, self.service_tier))
        self._read_at = self.size + _READ_BYTES

    def _note_tier(self, event: bytes) -> None:
        if event:
            fields = json_shapes.answer_in(object_of(loads_or_none(data_of(event))))
            self.service_tier = told_in(fields, is_whole=False)[1] or self.service_tier

    def _read_what_is_hidden(self, run: bytes, has_names: bool) -> bool:
        """Read only the usage chunk and the finish reason of the one choice, if nothing before them can matter."""
        if (last := self._usage_chunks.said_last(run, has_names=has_names)) is None:
            return False
        before, self._usage = self._usage, None
        self._read(last[0])
        if self._usage:
            self._note_one_finish(last[1])
            return True
        self._usage = before
        return False

    def _read_its_end(self, run: bytes, has_names: bool) -> bool:
        """Read only the last events of a chat, if nothing before them can matter. Most streams are read this way."""
        if not (since := scan.find_end_of_chat(run, has_names=has_names, one_choice=self._one_choice)):
            return False
        before = self._finish_reasons, self._usage, self._identified, self._model, self._id
        self._finish_reasons, self._usage, self._model, self._id = [], None, None, None
        for start, end in find_events(scan.WORTH_READING_CLOSELY, run, since):
            self._read_event(run[start:end])
        if self._usage and self._model is not None and self._id is not None and any(self._finish_reasons):
            if not self._one_choice:
                self._finish_reasons = before[0] + self._finish_reasons
            return True
        self._finish_reasons, self._usage, self._identified, self._model, self._id = before
        return False

    def _identify(self, run: bytes) -> int:
        """Read event after event until one names the model that answers. Returns where the next event begins."""
        position = 0
        while not self._identified and position < len(run):
            end = end_of_event(run, position)
            self._events_read += 1
            self._has_data = self._read_event(run[position:end]) or self._has_data
            position = end
        return position

    def _read_event(self, event: bytes) -> bool:
        """Read one event of a stream. Returns whether it has data."""
        data = data_of(event)
        document = loads_or_none(data) if len(event) <= LONGEST_EVENT else None
        if document is None and data.startswith(b"{"):
            self._known_form = True  # half an event: the stream was cut, unless its end has come before
        if self._error is None and (len(event) > _READ_BYTES or scan.may_report_error(event) or scan.is_odd(event)):
            self._error = self._error_in(event, document)
        self._read(document)
        if self._one_choice:
            self._note_one_finish(scan.finish_reasons_in(event))
        return bool(data) and not scan.is_ping(data)

    def _error_in(self, event: bytes, document: Any = None) -> ReportedError | None:
        document = loads_or_none(data_of(event)) if document is None else document
        return error_of_event(event, document, is_question=self._is_question)

    def _note_one_finish(self, reasons: list[str]) -> None:
        """Note the last of `reasons` as that of the one choice. Some servers send an empty one until it ends."""
        for reason in reasons:
            if reason or not self._finish_reasons:
                self._finish_reasons = [reason]

    def _read(self, document: Any) -> None:
        """Read a whole JSON answer, or one event of a stream; the Responses API wraps its answer in `response`."""
        fields = object_of(document)
        if is_one_of(json_shapes.MESSAGE_EVENTS, fields.get("type")) and self.is_stream:
            from proxy.metering.message_events import MessageEvents  # noqa: PLC0415  # most streams are chats

            self._message = self._message or MessageEvents()
            fields = self._message.read(fields)
        fields = json_shapes.answer_in(fields) if "response" in fields else fields
        self._model = text_of(fields.get("model"), json_shapes.LONGEST_NAME) or self._model
        self._id = text_of(fields.get("id"), json_shapes.LONGEST_NAME) or self._id
        self._identified = self._model is not None or self._events_read >= _IDENTIFIED_AFTER
        self._known_form = self._known_form or is_one_of(json_shapes.FORMS_WITH_AN_END, fields.get("object"))
        if not self._one_choice:
            self._finish_reasons += json_shapes.finish_reasons_of(fields)
            if len(self._finish_reasons) > _MOST_FINISH_REASONS:  # some servers send an empty one with every chunk
                self._finish_reasons = [reason for reason in self._finish_reasons if reason][:_MOST_FINISH_REASONS]
        if self._uses_tokens:
            used, tier = told_in(fields, is_whole=self._is_json)
            self._usage, self.service_tier = used or self._usage, tier or self.service_tier
            self._is_queued = json_shapes.is_waiting(fields)
            self._background_since = json_shapes.background_began(fields)
            if json_shapes.is_batch(fields):  # its tier is `batch`, whatever it says
                self.service_tier, self.batch_file = "batch", json_shapes.answers_of_batch(fields)
