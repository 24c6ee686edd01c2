"""The answer to a client that did not wait for it: it is stored, and sent to nobody while it comes.

Its one rule: whatever form the answer has, it can be read as a stream. A document becomes one event, and so does an
error.
"""

from collections.abc import Mapping, Sequence

from proxy.errors import ProxyError, UpstreamError
from proxy.streams.numbering import KEEP_ALIVES, Numbering
from proxy.streams.recording import Recording

_LARGEST = 16 * 1024 * 1024
_END = b"data: [DONE]\n\n"
_MESSAGES = "/messages"


class DetachedResponse:
    """Stores an answer to `path` in its recording."""

    def __init__(self, recording: Recording, stream_id: str, path: str) -> None:
        self.recording = recording
        self._numbering = Numbering(stream_id)
        self._ends = path != _MESSAGES  # Anthropic's streams have no end mark
        self._is_stream = self._is_coded = False
        self._document = bytearray()
        self.started = False
        self.broken = False
        self.fault: ProxyError | None = None

    @property
    def number(self) -> int:
        """The number of the latest event."""
        return self._numbering.number

    def start(self, status: int, headers: Mapping[str, str], cookies: Sequence[str] = ()) -> None:
        """Set status and headers. The headers say whether the answer is a stream."""
        self.started = True
        self._is_stream = headers.get("content-type", "").lower().startswith("text/event-stream")
        self._is_coded = "content-encoding" in headers

    def flush(self) -> None:
        """Nothing is sent: nobody waits for the head."""

    def write(self, data: bytes) -> None:
        """One piece of the answer."""
        if self._is_coded or data in KEEP_ALIVES:
            return
        if self._is_stream:
            self._add(self._numbering.feed(data))
        elif len(self._document) <= _LARGEST:
            self._document += data

    def end(self) -> None:
        """The end of the answer."""
        if self._is_coded or len(self._document) > _LARGEST:
            message = "The server's answer is compressed or too long: it cannot be kept for a client that did not wait."
            self._add(
                self._numbering.feed(_event(UpstreamError(502, "async_unreadable", message).to_json(), self._ends))
            )
        elif self._document:
            self._add(self._numbering.feed(_event(bytes(self._document), self._ends)))
        self._add(self._numbering.end())

    def fail(self, error: BaseException) -> None:
        """End an answer that broke off."""
        text = error.to_json() if isinstance(error, ProxyError) else b'{"error": {"message": "The proxy failed."}}'
        self._document.clear()
        self._add(self._numbering.feed(_event(text, self._ends)) + self._numbering.end())

    def _add(self, events: bytes) -> None:
        if events:
            self.recording.add(events, self._numbering.number)


def _event(document: bytes, ends: bool) -> bytes:
    """A document as an event. Each of its lines is a `data:` line, which readers join again."""
    text = document.decode(errors="replace")
    lines = text.encode().splitlines()  # a text ends lines where events do not
    return b"".join(b"data: %b\n" % line for line in lines) + b"\n" + (_END if ends else b"")
