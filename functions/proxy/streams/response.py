"""The answer of a resumable stream as it goes out: numbered, to its client and to the recording.

Its one rule: an answer that is no event stream passes unchanged. When the client goes away, the recording goes on:
others may read it.
"""

from collections.abc import Callable, Mapping, Sequence

from proxy.endpoints.responder import Response
from proxy.errors import ProxyError
from proxy.metering.sse import BLANK
from proxy.streams.numbering import KEEP_ALIVE, KEEP_ALIVES, Numbering
from proxy.streams.recording import Recording


class RecordedResponse:
    """Passes an answer on to `response`, and, if it turns out to be a stream, to the recording that `begin` gives.

    A stream gets the headers `added`.
    """

    def __init__(
        self, response: Response, stream_id: str, begin: Callable[[], Recording], added: Mapping[str, str]
    ) -> None:
        self._response = response
        self._numbering = Numbering(stream_id)
        self._begin, self._added = begin, added
        self._is_first = True
        self.recording: Recording | None = None

    @property
    def number(self) -> int:
        """The number of the latest event."""
        return self._numbering.number

    @property
    def started(self) -> bool:
        """Whether status and headers were given."""
        return self._response.started

    @property
    def broken(self) -> bool:
        """Whether what is written from now on reaches neither the client nor the recording."""
        return self._response.broken and not self._is_kept

    @property
    def fault(self) -> ProxyError | None:
        """Why the answer reaches neither the client nor the recording."""
        return None if self._is_kept else self._response.fault

    @property
    def _is_kept(self) -> bool:
        return self.recording is not None and not self.recording.is_lost

    def start(self, status: int, headers: Mapping[str, str], cookies: Sequence[str] = ()) -> None:
        """Set status and headers. The headers say whether the answer is a stream."""
        is_stream = headers.get("content-type", "").lower().startswith("text/event-stream")
        if status == 200 and is_stream and "content-encoding" not in headers:
            self.recording = self._begin()
            headers = {**headers, **self._added}
        self._response.start(status, headers, cookies)

    def flush(self) -> None:
        """Send status and headers now."""
        self._response.flush()

    def write(self, data: bytes) -> None:
        """Send the events that are whole with this piece."""
        recording = self.recording
        if recording is None or not data:
            self._response.write(data)
        elif data in KEEP_ALIVES:
            if self._numbering.is_between:
                self._response.write(KEEP_ALIVE)
        elif self._is_first and data.lstrip(BLANK).startswith((b"{", b"[")):
            # a document, whatever its content type says
            recording.end("failed", "no_stream")
            self.recording = None
            self._response.write(data)
        else:
            self._is_first = False
            self._pass_on(self._numbering.feed(data), recording)

    def end(self) -> None:
        """The end of the answer."""
        if self.recording is not None:
            self._pass_on(self._numbering.end(), self.recording)
        self._response.end()

    def fail(self, error: BaseException) -> None:
        """End an answer that broke off."""
        self._response.fail(error)

    def _pass_on(self, events: bytes, recording: Recording) -> None:
        if events:
            self._response.write(events)
            recording.add(events, self._numbering.number)
