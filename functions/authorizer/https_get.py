"""Gets a small JSON document of an issuer, within a bounded time and size. Loaded only where there is an issuer.

Its one rule: it goes where identity.yaml says, and nowhere else. It follows no redirect and uses no proxy.

urllib3 is what boto3 uses: versions 1.26 and 2, whichever the Lambda runtime has.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import urllib3

_LARGEST = 256 * 1024
"""Bytes. Those of the large issuers have 2 to 20 KB."""
_PIECE = 16 * 1024
_HEADERS = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "openai-proxy-lambda"}


class FetchError(Exception):
    """The document cannot be had. The message is for the owner."""


class HttpsGet:
    """Gets documents. Connections are kept for a moment; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = urllib3.PoolManager(
            num_pools=8, maxsize=1, retries=False, headers=_HEADERS, cert_reqs="CERT_REQUIRED"
        )
        self._clock = clock

    def __call__(self, address: str, seconds: float) -> dict[str, Any]:
        """The JSON object at `address`, which has `seconds` to arrive. Raises FetchError."""
        end = self._clock() + seconds
        try:
            timeout = urllib3.Timeout(total=seconds)
            response = self._pool.request("GET", address, timeout=timeout, redirect=False, preload_content=False)
            try:
                return self._object(response, end)
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise FetchError(type(error).__name__) from error
        except (ValueError, RecursionError) as error:
            raise FetchError("no JSON object") from error

    def _object(self, response: Any, end: float) -> dict[str, Any]:
        if response.status != 200:
            raise FetchError(f"status {response.status}")
        body = bytearray()
        for piece in response.stream(_PIECE, decode_content=False):
            body += piece
            if len(body) > _LARGEST:
                raise FetchError(f"more than {_LARGEST} bytes")
            if self._clock() > end:
                raise FetchError("too slow")
        document: Any = json.loads(body.decode())
        if not isinstance(document, dict):
            raise FetchError("no JSON object")
        return document  # pyright: ignore[reportUnknownVariableType]
