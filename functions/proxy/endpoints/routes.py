"""What the proxy answers itself below `/v1/`, without a server: the list of all models, and receipts."""

from proxy.endpoints.models import ModelList
from proxy.endpoints.receipts import Receipts
from proxy.inference import Inference
from proxy.request.key_context import ClientKey
from proxy.request.parse import Target


class OwnPaths:
    """The paths that lead to no server."""

    def __init__(self, models: ModelList, receipts: Receipts) -> None:
        self._models = models
        self._receipts = receipts

    def document(self, target: Target, key: ClientKey, inference: Inference) -> bytes | None:
        """The JSON for a GET of `target`, which names no server; None when it is for one. Raises ProxyError."""
        if self._models.answers(target):
            return self._models.document(target, key, inference)
        return self._receipts.document(target, key) if self._receipts.answers(target) else None
