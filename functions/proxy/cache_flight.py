"""`Flight`: a request that the response cache could not answer, and whose answer is to be kept. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.cache_key import Keys
from proxy.cache_policy import Policy
from proxy.capture import Capture, is_complete
from proxy.meter import Meter


@dataclass(slots=True)
class Flight:
    """What is to be kept, and under which key. `leads`: it has the `lease`, and others may be waiting for it."""

    keys: Keys
    policy: Policy
    path: str
    server: str
    fields: Mapping[str, Any]
    is_stream: bool
    capture: Capture
    lease: str = ""
    leads: bool = False
    headers: Mapping[str, str] | None = None
    """Those of the answer that reach the client, once it has begun."""

    def watched(self, body: Iterable[bytes], headers: Mapping[str, str]) -> Iterable[bytes]:
        """`body` of the answer with these headers, kept while it passes."""
        self.headers = headers
        return self.capture.watch(body)

    @property
    def content_type(self) -> str:
        """That of the answer."""
        return (self.headers or {}).get("content-type", "")

    def is_answered(self, status: int, server: str | None, meter: Meter | None) -> bool:
        """Whether the answer came whole from the server that was meant, in the form that was asked for, and is good."""
        if status != 200 or server != self.server or meter is None or meter.has_error or not self.headers:
            return False
        kind = "text/event-stream" if self.is_stream else "application/json"
        if not self.content_type.startswith(kind) or "content-encoding" in self.headers:
            return False
        pieces = self.capture.pieces
        return is_complete(self.path, self.fields, pieces, meter.finish_reasons, is_stream=self.is_stream)
