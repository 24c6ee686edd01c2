"""What the proxy answers itself below `/v1/`, without a server: the list of all models, and receipts."""

from proxy.client_key import ClientKey
from proxy.inference import Inference
from proxy.model_list import ModelList
from proxy.receipts import Receipts
from proxy.request import InferenceRequest, Target


class OwnPaths:
    """The paths that lead to no server."""

    def __init__(self, models: ModelList, receipts: Receipts) -> None:
        self._models = models
        self._receipts = receipts

    def document(self, request: InferenceRequest, target: Target, key: ClientKey, inference: Inference) -> bytes | None:
        """The JSON for `request`, or None when it is for a server. Raises ProxyError."""
        if target.server is not None or request.method != "GET":
            return None
        if self._models.answers(target):
            return self._models.document(target, key, inference)
        return self._receipts.document(target, key) if self._receipts.answers(target) else None
