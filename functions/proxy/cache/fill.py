"""`CacheFill`: a request that the response cache could not answer, and whose answer is to be kept. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from openai_proxy.cache.answers import is_content_type
from openai_proxy.cache.keys import lease_name

from proxy.cache.capture import Capture
from proxy.cache.conversion import is_possible
from proxy.cache.key import HEADERS_WITHOUT_INFLUENCE, Keys
from proxy.cache.policy import Policy, forbids_keeping
from proxy.delivery import CacheUse, Delivery
from proxy.metering.whole_answer import flaw_of
from proxy.outcome import Outcome


class Wanted(NamedTuple):
    """The answer that a request is for: of which `server`, to which `fields`, and whether as a stream. `path` is below
    `/v1`.
    """

    path: str
    server: str
    fields: Mapping[str, Any]
    is_stream: bool


class CacheFill(NamedTuple):
    """An answer that is to be kept, and its key; `capture` keeps the body while it passes.

    `since` (Unix seconds) is when this request took the `lease`, for whose end others may be waiting; None where it has
    not.
    """

    keys: Keys
    policy: Policy
    wanted: Wanted
    capture: Capture
    namespace: str = ""
    lease: str = ""
    since: float | None = None

    def flaw(self, outcome: Outcome) -> str | None:
        """Why the answer is not kept, in one word; None when it is whole and good.

        The answer must come from the server that was meant, in the form that was asked for.
        """
        path, meant, fields, is_stream = self.wanted
        delivery, headers = outcome.delivery, outcome.delivery.headers
        if outcome.status != 200 or delivery.server_name != meant:
            return "not_answered"
        if outcome.meter is None or outcome.meter.error or delivery.upstream is None:
            return "error"
        if not is_content_type(headers.get("content-type", ""), is_stream=is_stream) or "content-encoding" in headers:
            return "form"
        is_private = forbids_keeping(delivery.upstream.headers, HEADERS_WITHOUT_INFLUENCE)
        if is_private and "private" not in self.policy.keeps:
            return "private"
        may_search = "searches" in self.policy.keeps
        body = b"".join(self.capture.pieces)
        return flaw_of(path, fields, body, is_stream=is_stream, may_search=may_search)


def lease_of(keys: Keys, wanted: Wanted) -> str:
    """The name of the lease. Each form that has to be fetched by itself has a lease of its own, because an answer in
    another form would not help those who wait.
    """
    either_will_do = is_possible(wanted.path, to_stream=True) and is_possible(wanted.path, to_stream=False)
    return lease_name(keys.key, is_stream=None if either_will_do else wanted.is_stream)


class Lookup(NamedTuple):
    """What the cache has for a request: its `delivery`, or the `fill` for an answer that is to be kept; neither for
    BYPASS.

    `use` is what the answer's headers and the event say of the cache.
    """

    use: CacheUse
    fill: CacheFill | None = None
    delivery: Delivery | None = None
