"""`CacheFill`: a request that the response cache could not answer, and whose answer is to be kept. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from openai_proxy.cache.answers import is_content_type

from proxy.cache.capture import Capture
from proxy.cache.key import HEADERS_WITHOUT_INFLUENCE, Keys
from proxy.cache.policy import Policy, forbids_keeping
from proxy.delivery import CacheUse, Delivery
from proxy.metering.meter import Meter
from proxy.metering.whole_answer import flaw_of


class Wanted(NamedTuple):
    """The answer that a request is for: of which `server`, to which `fields`, and whether as a stream. `path` is below
    `/v1`.
    """

    path: str
    server: str
    fields: Mapping[str, Any]
    is_stream: bool


class CacheFill:
    """An answer that is to be kept, and its key. `leads`: this request holds the `lease`, and others may be waiting for
    it.
    """

    def __init__(
        self,
        keys: Keys,
        policy: Policy,
        wanted: Wanted,
        capture: Capture,
        namespace: str = "",
    ) -> None:
        self.keys = keys
        self.policy = policy
        self.wanted = wanted
        self.capture = capture
        self.namespace = namespace
        self.lease = ""
        self.leads = False
        self.since = 0.0
        """When it took the lease, in Unix seconds."""
        self.headers: Mapping[str, str] | None = None
        """The headers of the answer that reach the client, once it has begun."""
        self.is_private = False
        """Whether the server forbids that the answer is kept."""

    def watched(
        self, body: Iterable[bytes], headers: Mapping[str, str], all_headers: Mapping[str, str]
    ) -> Iterable[bytes]:
        """Pass on the `body` of an answer, and keep it. `headers` are those of `all_headers` that reach the client."""
        self.headers = headers
        self.is_private = forbids_keeping(all_headers, HEADERS_WITHOUT_INFLUENCE)
        return self.capture.watch(body)

    @property
    def content_type(self) -> str:
        """The media type of the answer."""
        return (self.headers or {}).get("content-type", "")

    def flaw(self, status: int, server: str | None, meter: Meter | None) -> str | None:
        """Why the answer is not kept, in one word; None when it is whole and good.

        The answer must come from the server that was meant, in the form that was asked for.
        """
        path, meant, fields, is_stream = self.wanted
        if status != 200 or server != meant:
            return "not_answered"
        if meter is None or meter.error or not self.headers:
            return "error"
        if not is_content_type(self.content_type, is_stream=is_stream) or "content-encoding" in self.headers:
            return "form"
        if self.is_private and "private" not in self.policy.keeps:
            return "private"
        may_search = "searches" in self.policy.keeps
        body = b"".join(self.capture.pieces)
        return flaw_of(path, fields, body, is_stream=is_stream, may_search=may_search)


class Lookup(NamedTuple):
    """What the cache has for a request: its `delivery`, or the `fill` for an answer that is to be kept; neither for
    BYPASS.

    `use` is what the answer's headers and the event say of the cache.
    """

    use: CacheUse
    fill: CacheFill | None = None
    delivery: Delivery | None = None
