"""The answer for a caller that cannot stream: it is collected, and given whole, as a proxy integration expects it."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any


class BufferedResponse:
    """Collects an answer for a caller that takes it in one piece."""

    def __init__(self) -> None:
        self.started = False
        self.broken, self.fault = False, None
        self._status = 500
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._failure: BaseException | None = None

    def start(self, status: int, headers: Mapping[str, str], cookies: Sequence[str] = ()) -> None:
        """Keep status and headers. The proxy sets no cookies."""
        self.started = True
        self._status = status
        self._headers = dict(headers)

    def flush(self) -> None:
        """Nothing goes out before the end."""

    def write(self, data: bytes) -> None:
        """Keep one piece of the body."""
        self._body += data

    def end(self) -> None:
        """Nothing is left to do: the result is taken when the handler returns."""

    def fail(self, error: BaseException) -> None:
        """A body that broke off cannot be handed out as if it were whole: `result` raises `error`."""
        self._failure = error

    def result(self) -> dict[str, Any]:
        """The answer as a Lambda proxy integration takes it; base64 unless it is text."""
        if self._failure is not None:
            raise self._failure
        body = bytes(self._body)
        try:
            text, is_base64 = body.decode(), False
        except UnicodeDecodeError:
            text, is_base64 = base64.b64encode(body).decode(), True
        return {"statusCode": self._status, "headers": self._headers, "body": text, "isBase64Encoded": is_base64}
