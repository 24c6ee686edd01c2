"""A proxy sandbox that neither meters answers, nor asks servers for usage, nor hides it: what that costs is the rest.

It still frames events, which error frames and comments need, and publishes its event, with `usage.source` `none`.
"""

import os
from typing import Any

from proxy import admission, relay
from proxy.metering.meter import AnswerTraits, Meter
from proxy.request.body import OutgoingBody, RequestBody
from proxy.runtime import Runtime


class _Blind(Meter):
    """Sees nothing, and says that there is nothing to estimate and nothing missing either."""

    def __init__(self, content_type: str, _: bool, traits: AnswerTraits) -> None:
        super().__init__(content_type, False, traits)

    @property
    def is_cut(self) -> bool:
        return False

    def see(self, chunk: bytes) -> bytes:
        """Look away."""
        return chunk

    def end(self, document: Any = None) -> None:
        """Nothing was kept."""


class _AskingForNothing(RequestBody):
    """A body of an operation that the proxy does not know: it asks no usage then, and has none to hide."""

    def outgoing(self, default_model: str, replacement: str = "", *, asks_usage: bool = True) -> OutgoingBody:
        self._operation, self._path = "other", ""
        body = super().outgoing(default_model, replacement, asks_usage=asks_usage)
        assert not body.asks_usage_unasked
        return body


if __name__ == "__main__":
    relay.Meter = _Blind
    admission.RequestBody = _AskingForNothing
    Runtime(os.environ).run()
