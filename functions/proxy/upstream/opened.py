"""Checks an answer with a success status before its client gets any of it.

A server may report an error as the first event of a stream or as a document, or answer a question with something that
is no answer. If that is found now, it is an UpstreamError with a status of its own, and another attempt can still
succeed. Its one rule: no client waits for the check. Only parts are checked that a client cannot use before they are
whole: a document, or the first event. If the server is silent longer than `_LONGEST_HOLD`, its status is passed on, and
later errors are in-band.
"""

import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from openai_proxy.servers import Server

from proxy.delivery import SHORTEST_SECRET, without
from proxy.errors import UpstreamError
from proxy.http.transport import UpstreamResponse
from proxy.json_shapes import array_of, loads_or_none, object_of
from proxy.metering.reported_error import error_of_event, message_of, reported_error
from proxy.metering.scan import is_odd, is_ping, may_report_error
from proxy.metering.sse import BLANK, EventFrames, data_of, split_events
from proxy.upstream.response import broken_off, coding_left, content_type, error_in_success, no_answer, unpacked

_LONGEST_HOLD = 1.0
"""Seconds of silence after which the client gets its status."""
_LONGEST_LOOK = 64 * 1024
"""Bytes. Errors are shorter: what is longer is not searched for one."""
_LONGEST_HELD = 4 * 1024 * 1024
_STREAM, _DOCUMENT = "text/event-stream", "application/json"
_FIELD = re.compile(rb"(?:data|event|id|retry)?:")
_LONGEST_FIELD = 6
_OF_ANSWERS = ("choices", "output", "data", "usage", "model", "text", "results", "response")
_END_MARK = b"[DONE]"


class Expected(NamedTuple):
    """What the answer should be: the answer of a model, the result of an action, a stream, or a stream that marks its
    end.
    """

    is_question: bool
    is_post: bool
    is_stream: bool
    has_terminator: bool


class OpenedAnswer:
    """An answer of `server` and its `body`, piece by piece as it comes. With an error status the body has not been read
    yet.

    `content_type` is the real type of the body, whatever the server calls it. `document` is the JSON of a body that has
    been read. `token` is the one that the server was called with.
    """

    def __init__(self, answer: UpstreamResponse, server: Server, token: str) -> None:
        self.answer = answer
        self.server = server
        self.token = token
        self.content_type = content_type(answer)
        self.body: Iterable[bytes] = ()
        self.document: Any = None

    @property
    def status(self) -> int:
        """The status of the server's answer."""
        return self.answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the server's answer."""
        return self.answer.headers


def opened(
    answer: UpstreamResponse, server: Server, token: str, expected: Expected, begin: Callable[[], None]
) -> OpenedAnswer:
    """Check `answer` to a call with `token`. `begin` is called if the server is silent: it sends the client the status.

    Raises UpstreamError for an error, for something that is no answer, and for a body that breaks off, all before the
    client has anything.
    """
    found = OpenedAnswer(answer, server, token)
    if answer.status >= 300:
        return found
    if expected.is_question and "html" in found.content_type:
        raise no_answer(server.name, answer.status, "a web page. Is its url the base of an OpenAI API?")
    look = _Look(answer, server, begin)
    try:
        _look_at(look, found, expected)
        if look.broken:
            raise look.broken
    except UpstreamError as error:
        if not look.begun:
            raise
        look.rest = _raising(error)
    look.end()
    found.body = itertools.chain(look.held, look.rest)
    return found


class _Look:
    """The pieces of a body that have been checked, which are `held` until then, and the `rest` of the body."""

    def __init__(self, answer: UpstreamResponse, server: Server, begin: Callable[[], None]) -> None:
        self.held: list[bytes] = []
        self.rest = iter(unpacked(answer, server.name))
        self.is_over = False
        """Whether the body has ended."""
        self.broken: UpstreamError | None = None
        """How it broke off. An error of the server's own in what came before says more."""
        self.begun = False
        """Whether the client has its status: then nothing can be made good any more."""
        self._size = 0
        self._until: float | None = None
        self._answer = answer
        self._begin = begin
        self._patience = answer.patience

    def may_begin(self) -> None:
        """From now on the client gets the status if the server is silent."""
        if self._until is not None:
            return
        self._until = time.perf_counter() + _LONGEST_HOLD
        self._answer.patience = min(_LONGEST_HOLD, self._patience / 2)
        self._answer.on_silence = self._on_silence

    def _on_silence(self) -> None:
        self.begun = True
        self._answer.patience, self._answer.on_silence = self._patience, lambda: None  # the answer begins only once
        self._begin()

    def more(self, most: int) -> bytes | None:
        """The next piece; None at the end, after more than `most` bytes, and when the client should wait no longer."""
        if (
            self.begun
            or self.broken
            or self._size > most
            or (self._until is not None and time.perf_counter() > self._until)
        ):
            return None
        try:
            piece = next(self.rest, None)
        except UpstreamError as error:
            self.broken = error
            return None
        if piece is None:
            self.is_over = True
            return None
        self.held.append(piece)
        self._size += len(piece)
        return piece

    def pieces(self, most: int) -> Iterator[bytes]:
        """All pieces from the first one, as far as `more` gives them."""
        yield from tuple(self.held)
        while (piece := self.more(most)) is not None:
            yield piece

    def end(self) -> None:
        """End the check: the answer waits for its server as long as before."""
        self._answer.patience = self._patience
        if not self.begun:
            self._answer.on_silence = lambda: None


def _look_at(look: _Look, found: OpenedAnswer, expected: Expected) -> None:
    if found.content_type.startswith(_STREAM) or (expected.is_stream and not coding_left(found.answer)):
        _look_at_stream(look, found, expected)
    elif expected.is_question and not coding_left(found.answer):
        _look_at_document(look, found, expected, _LONGEST_HELD)
    else:
        look.may_begin()
        first = look.more(_LONGEST_LOOK)
        if first and expected.is_post and found.content_type.startswith(_DOCUMENT) and may_report_error(first):
            _look_at_document(look, found, expected, _LONGEST_LOOK)


def _look_at_stream(look: _Look, found: OpenedAnswer, expected: Expected) -> None:
    """Check a body that is a stream by its content type, or that was asked to be one: then its first bytes show what it
    is.
    """
    is_stream = found.content_type.startswith(_STREAM)
    if is_stream:
        look.may_begin()
    form = _form_of(look)
    if form == _DOCUMENT and not look.begun:
        found.content_type = _DOCUMENT
        _look_at_document(look, found, expected, _LONGEST_HELD)
    elif is_stream or form == _STREAM:
        found.content_type = _STREAM
        look.may_begin()
        _look_at_first_event(look, found, expected)
    elif expected.is_question and not look.broken:
        raise _no_answer(found, b"".join(look.held))


def _form_of(look: _Look) -> str:
    """The content type of a body by its first bytes; "" if they do not show it."""
    beginning = b""
    for piece in look.pieces(_LONGEST_LOOK):
        beginning = (beginning + piece[:_LONGEST_LOOK]).lstrip(BLANK)
        if len(beginning) >= _LONGEST_FIELD or beginning.startswith((b"{", b"[", b":")):
            break
    if beginning.startswith((b"{", b"[")):
        return _DOCUMENT
    return _STREAM if _FIELD.match(beginning) else ""


def _look_at_first_event(look: _Look, found: OpenedAnswer, expected: Expected) -> None:
    """Check the first event of a stream. Raises UpstreamError if it is an error, and if there is no event."""
    frames = EventFrames(_LONGEST_LOOK)
    for piece in look.pieces(_LONGEST_LOOK):
        for event in split_events(frames.whole(piece)):
            if _is_read(event, found, expected):
                return
    is_read = bool(look.is_over or look.broken) and _is_read(frames.rest(), found, expected)
    if look.is_over and not is_read and expected.has_terminator:
        raise broken_off(found.server.name)


def _is_read(event: bytes, found: OpenedAnswer, expected: Expected) -> bool:
    """Whether an event has data other than the end mark. Raises UpstreamError if it reports an error."""
    event = event.lstrip(BLANK)
    data = data_of(event)
    if (may_report_error(event) or is_odd(event)) and (
        error := error_of_event(event, loads_or_none(data), is_question=expected.is_question)
    ):
        raise error_in_success(found.answer, found.server.name, found.token, error)
    return data.strip() not in (b"", _END_MARK) and not is_ping(data)


def _look_at_document(look: _Look, found: OpenedAnswer, expected: Expected, most: int) -> None:
    """Check a JSON answer. It is held until it is whole: half of it is of no use, and if it is cut now, that can still
    be an error.

    An answer of more than `most` bytes is passed on as it comes. Raises UpstreamError for an error and for something
    that is no answer.
    """
    for _ in look.pieces(most):
        pass
    if not (look.is_over or look.broken):
        return
    body = b"".join(look.held).lstrip(BLANK).rstrip()
    if expected.is_question:  # whatever it was called: nothing but an object passes as its answer
        found.content_type = _DOCUMENT
    if len(body) > _LONGEST_LOOK:  # too long for an error: it is read after the client has it
        if expected.is_question and look.is_over and not (body.startswith(b"{") and body.endswith(b"}")):
            raise _no_answer(found, body)
        return
    found.document = document = loads_or_none(body)
    error = reported_error(document)
    if document is None and expected.is_question:
        error = next(filter(None, map(reported_error, map(loads_or_none, body.splitlines()))), None)
    if error and not _has_content(object_of(document)):
        raise error_in_success(found.answer, found.server.name, found.token, error)
    if error and len(found.token) >= SHORTEST_SECRET and found.token in f"{error.message} {error.code}":
        look.held = [without(found.token, b"".join(look.held))]
        found.document = loads_or_none(look.held[0].lstrip(BLANK))
    if expected.is_question and look.is_over and not error and not _is_answer(document):
        raise _no_answer(found, body, message_of(document) if isinstance(document, dict) else "")


def _has_content(fields: dict[str, Any]) -> bool:
    """Whether an answer with an error also holds something useful. A Response that failed is an answer in itself."""
    good = (not reported_error({"choices": [choice]}) for choice in array_of(fields.get("choices")))
    return bool(fields.get("object") == "response" or fields.get("data") or any(good))


def _is_answer(document: Any) -> bool:
    """Whether a JSON value may be the answer to a question."""
    fields = object_of(document)
    return any(fields.get(name) is not None for name in _OF_ANSWERS) or bool(fields and not message_of(fields))


def _no_answer(found: OpenedAnswer, body: bytes, said: str = "") -> UpstreamError:
    is_json = found.document is not None or body == b"null"
    what = "JSON that is no answer" if is_json else "what is neither JSON nor a stream"
    if body[:64].lstrip(BLANK).startswith(b"<"):
        what = "a web page. Is its url the base of an OpenAI API?"
    elif not body.strip(BLANK):
        what = "nothing"
    return no_answer(found.server.name, found.status, f"{what}: {said}" if said else what)


def _raising(error: UpstreamError) -> Iterator[bytes]:
    """No pieces, but the error that the client has to get in-band."""
    yield from ()
    raise error
