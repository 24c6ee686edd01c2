"""What can go wrong with a request, whose fault it is, and how the client is told. Pure.

    ProxyError                 status, OpenAI error `type`, stable `code`
    ├── ClientError            the request cannot be served as it is                4xx
    │   ├── KeyRefusedError    a client key lets nobody in                          401
    │   ├── TokenError         an access token lets nobody in                       401
    │   ├── NotAllowedError    the client key may not do this                       403
    │   └── LimitError         the client key has reached a limit                   429
    ├── UpstreamError          the upstream server failed                           502, 503, 504
    └── UnavailableError       the proxy itself cannot serve anybody, or not now    500, 503

The codes are listed in `docs/errors.md`; clients may rely on them.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

from openai_proxy.key_refusals import TOKEN_REFUSALS

Fault = Literal["client", "upstream", "proxy"]
Span = Literal["minute", "moment", "day", "week", "month", "total"]
"""What a limit holds for. `moment`: for what runs at the same time."""


class ProxyError(Exception):
    """An error that the proxy answers with, in place of a server. `message` is written for the client's developer.

    `type` is the class's own; `param` names the field of the body that is at fault, if one is.
    """

    fault: Fault = "proxy"
    type = "server_error"

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.param = param

    def to_object(self) -> dict[str, Any]:
        """The object that every OpenAI SDK turns into its error classes."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def to_json(self) -> bytes:
        """The body of an answer."""
        return json.dumps(self.to_object()).encode()


class ClientError(ProxyError):
    """The client's fault: repeating the request unchanged will not help."""

    fault: Fault = "client"
    type = "invalid_request_error"


class LimitReached(NamedTuple):
    """A limit that has no room: whose limit it is, its `span` of time, its size, what is used, and what the request
    needed.

    `subject_id` is the id of a key (of rotated keys the first) or a user, or the name of a team. Amounts are decimal
    numbers as text: requests, tokens or USD.
    """

    subject: Literal["key", "user", "team"]
    subject_id: str
    span: Span
    limit: str
    used: str
    asked: str


class LimitError(ClientError):
    """A limit of the client key has no room. `source` says which limit, `retry_after` in how many seconds it may have
    room (None: never), and `reached` how much was used.
    """

    type = "rate_limit_error"
    reached: LimitReached | None = None

    def __init__(
        self, code: str, message: str, source: str, retry_after: int | None, headers: Mapping[str, str]
    ) -> None:
        again = {} if retry_after is None else {"retry-after": str(retry_after)}
        super().__init__(429, code, message, headers={**headers, **again})
        if code == "insufficient_quota":
            self.type = code
        self.source = source
        self.retry_after = retry_after

    def of(self, reached: LimitReached | None) -> Self:
        """The same error, with the limit that was reached."""
        self.reached = reached
        return self


class KeyRefusedError(ClientError):
    """There is no client key, or one that lets nobody in."""

    type = "authentication_error"

    def __init__(self, message: str) -> None:
        super().__init__(401, "invalid_api_key", message)


class NotAllowedError(ClientError):
    """The client key may not do what the request asks for."""

    type = "permission_error"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(403, code, message)


class TokenError(ClientError):
    """An access token lets nobody in: `code` is one of `TOKEN_REFUSALS`. Raises KeyError for another."""

    type = "authentication_error"

    def __init__(self, code: str) -> None:
        super().__init__(401, code, TOKEN_REFUSALS[code])


class UpstreamError(ProxyError):
    """The upstream server's fault. `upstream_status` is the status that it answered with, if it answered."""

    fault: Fault = "upstream"
    type = "upstream_error"

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        upstream_status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, code, message, headers=headers)
        self.upstream_status = upstream_status


class UnavailableError(ProxyError):
    """The proxy's own fault: configuration, or a service that it depends on."""

    fault: Fault = "proxy"
    type = "server_error"
