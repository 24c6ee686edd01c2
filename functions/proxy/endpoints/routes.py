"""Which paths the proxy answers itself: the list of all models and receipts below `/v1/`, and the list of a pool's
models.
"""

from collections.abc import Callable, Container, Mapping
from typing import Protocol

from openai_proxy.key_context import ClientKey

from proxy.call import STREAMS, Call
from proxy.errors import ClientError
from proxy.request.parse import InferenceRequest, Target
from proxy.timeline import Timeline

MODELS = "/models"
RECEIPTS = "/receipts/"
_WITHOUT_SERVER = (RECEIPTS,)
"""Paths that belong to no server, and so to no pool."""


class Endpoint(Protocol):
    """Answers a path, and the paths below it."""

    def document(self, target: Target, key: ClientKey, timeline: Timeline, /) -> bytes:
        """The JSON for the path of `target`. Raises ProxyError."""
        ...


def is_own(request: InferenceRequest, target: Target, pools: Container[str | None]) -> bool:
    """Whether the proxy answers a request itself. `pools` are the names of the pools in the servers file."""
    if target.path.startswith(STREAMS):
        return True
    if request.method != "GET" or not (target.server is None or target.server in pools):
        return False
    if f"{target.path}/".startswith(f"{MODELS}/"):
        return True
    return target.server is None and target.path.startswith(_WITHOUT_SERVER)


class Endpoints:
    """The paths that lead to no server. `given` has for each what gives its endpoint, built when it is first asked."""

    def __init__(self, given: Mapping[str, Callable[[], Endpoint]]) -> None:
        self._given = given

    def document(self, call: Call, timeline: Timeline) -> bytes | None:
        """The JSON for a call, or None when it is for a server. Raises ProxyError."""
        request, target, key = call.request, call.target, call.key
        if request is None or target is None or key is None or call.body is not None:
            # a call whose body has been read goes to a server
            return None
        if target.path.startswith(STREAMS):
            raise ClientError(404, "stream_not_found", "This proxy keeps no streams.")
        [give] = [give for path, give in self._given.items() if target.path.startswith(path)]
        return give().document(target, key, timeline)
