"""What the proxy answers itself below `/v1/`, without a server: the list of all models, and receipts."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.call import Call
from proxy.request.parse import InferenceRequest, Target
from proxy.timeline import Timeline

if TYPE_CHECKING:  # loaded when one of them is asked for
    from proxy.endpoints.models import ModelList
    from proxy.endpoints.receipts import Receipts

_MODELS = "/models"
_RECEIPTS = "/receipts/"


def is_own(request: InferenceRequest, target: Target) -> bool:
    """Whether the proxy answers a request itself."""
    is_listed = f"{target.path}/".startswith(f"{_MODELS}/") or target.path.startswith(_RECEIPTS)
    return target.server is None and request.method == "GET" and is_listed


class Endpoints:
    """The paths that lead to no server. What answers them is made when it is first asked for."""

    def __init__(self, models: "Callable[[], ModelList]", receipts: "Callable[[], Receipts]") -> None:
        self._models = models
        self._receipts = receipts

    def document(self, call: Call, timeline: Timeline) -> bytes | None:
        """The JSON for a call, or None when it is for a server. Raises ProxyError."""
        request, target, key = call.request, call.target, call.key
        if request is None or target is None or key is None or not is_own(request, target):
            return None
        if target.path.startswith(_RECEIPTS):
            return self._receipts().document(target, key)
        return self._models().document(target, key, timeline)
