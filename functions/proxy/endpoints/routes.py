"""Which paths the proxy answers itself: the list of all models and receipts below `/v1/`, and the list of a pool's
models.
"""

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from proxy.call import STREAMS, Call
from proxy.errors import ClientError
from proxy.request.parse import InferenceRequest, Target
from proxy.timeline import Timeline

if TYPE_CHECKING:  # each is loaded when it is first asked for
    from proxy.endpoints.models import ModelList
    from proxy.endpoints.receipts import Receipts

_MODELS = "/models"
_RECEIPTS = "/receipts/"


def is_own(request: InferenceRequest, target: Target, pools: Container[str | None]) -> bool:
    """Whether the proxy answers a request itself. `pools` are the names of the pools in the servers file."""
    if target.path.startswith(STREAMS):
        return True
    if request.method != "GET" or not (target.server is None or target.server in pools):
        return False
    is_receipt = target.server is None and target.path.startswith(_RECEIPTS)
    return is_receipt or f"{target.path}/".startswith(f"{_MODELS}/")


class Endpoints:
    """The paths that lead to no server. Whatever answers one is built when it is first asked for."""

    def __init__(self, models: "Callable[[], ModelList]", receipts: "Callable[[], Receipts]") -> None:
        self._models = models
        self._receipts = receipts

    def document(self, call: Call, timeline: Timeline) -> bytes | None:
        """The JSON for a call, or None when it is for a server. Raises ProxyError."""
        request, target, key = call.request, call.target, call.key
        if request is None or target is None or key is None or call.body is not None:
            # a call whose body has been read goes to a server
            return None
        if target.path.startswith(STREAMS):
            raise ClientError(404, "stream_not_found", "This proxy keeps no streams.")
        if target.path.startswith(_RECEIPTS):
            return self._receipts().document(target, key)
        return self._models().document(target, key, timeline)
