"""Signs what a webhook is told of a stream, so that its receiver knows who sent it.

    v1,base64(HMAC-SHA256(secret, "{inference id}.{timestamp}.{status}"))

Its one rule: without the secret nothing is signed, and the webhook is told nothing unsigned.
"""

import time
from collections.abc import Callable

from openai_proxy.events.streams import signature_of

from proxy.aws.client import AwsError
from proxy.log import log

_KEPT_SECONDS = 300.0


class Signer:
    """Signs with the secret that `get_secret` gives, which is looked up again every five minutes."""

    def __init__(self, get_secret: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._get_secret, self._clock = get_secret, clock
        self._secret, self._good_until = "", 0.0

    def __call__(self, text: str) -> str:
        """The signature of a text; "" if the secret cannot be read. Never raises."""
        if self._clock() >= self._good_until:
            try:
                self._secret, self._good_until = self._get_secret(), self._clock() + _KEPT_SECONDS
            except AwsError as error:
                log("ERROR", "A webhook is not told of a stream: its secret is unavailable", reason=str(error))
        return signature_of(self._secret, text) if self._secret else ""
