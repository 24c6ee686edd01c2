"""An answer on its way to the client, whoever gives it: a server, or the response cache."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from openai_proxy.servers import Server
from openai_proxy.usage import Usage

from proxy.errors import ProxyError
from proxy.json_shapes import loads_or_none
from proxy.request.body import OutgoingBody

if TYPE_CHECKING:  # only a type: an answer holds a connection, and this module does no input or output
    from openai_proxy.events.types import CacheData

    from proxy.http.transport import UpstreamResponse

ESCAPED = b"\\u00"
"""How JSON may begin any character of a token."""
_ESCAPED = rb"\\u00[2-7]"
SHORTEST_SECRET = 8
Status = Literal["HIT", "MISS", "REFRESH", "BYPASS"]


class CacheUse(NamedTuple):
    """What the response cache did for a request, as its answer's headers and its event say.

    `reason` is one word of `docs/cache.md`. `age` (seconds), `saved` and `usage` are those of a HIT.
    """

    status: Status = "BYPASS"
    reason: str | None = "off"
    age: int | None = None
    saved: str | None = None
    """What the stored answer cost, with its currency."""
    usage: Usage | None = None

    def to_event(self) -> "CacheData":
        """The `data.cache` object of an event."""
        return {"status": self.status, "reason": self.reason}

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers about the cache; none where no policy is on."""
        if self.reason == OFF.reason:
            return {}
        found = {"x-cache": self.status}
        if self.reason:
            found["x-cache-reason"] = self.reason
        if self.age is not None:
            found["age"] = str(self.age)
        if self.saved:
            found["x-cache-saved"] = self.saved
        return found


OFF = CacheUse()


class Delivery(NamedTuple):
    """An answer: its `status`, the `headers` that the client gets of it, and its body, in `chunks` as they come.

    `server` gave it for the body `sent`; both are None where no server was asked. `document` is the JSON of a body that
    has been read already. `error` says why there is no answer; the other fields then say who failed.
    """

    server: Server | None = None
    sent: OutgoingBody | None = None
    status: int = 0
    headers: Mapping[str, str] = MappingProxyType({})
    content_type: str = ""
    chunks: Iterable[bytes] = ()
    upstream: "UpstreamResponse | None" = None
    """The server's answer, as it was received; None for a stored one."""
    document: Any = None
    retry_after: float | None = None
    """Seconds, where the server asks for them."""
    error: ProxyError | None = None
    token: str = ""
    """The server's: it is kept out of whatever is passed on or written down."""

    def __repr__(self) -> str:
        return f"Delivery(server={self.server_name!r}, status={self.status})"  # without the token

    @property
    def secret(self) -> bytes:
        """The longest part of the token without a character that JSON escapes; b"" where the token is no secret, but a
        short word for a server that wants none.
        """
        is_secret = len(self.token) >= SHORTEST_SECRET
        return max(re.split(r'[/"\\]', self.token), key=len).encode() if is_secret else b""

    def without_token(self, events: bytes, *, is_question: bool) -> bytes:
        """Whole events of the answer. Those that report an error are without the token: some servers quote the request.

        A model may write the same word, and that is not changed. Of an answer to a question, pieces have known forms.
        """
        if not self.secret or not (self.secret in events or re.search(_ESCAPED, events)):
            return events
        if without(self.token, events) == events:
            return events
        from proxy.metering.reported_error import error_of_event  # noqa: PLC0415  # hardly any server does
        from proxy.metering.sse import data_of, split_events  # noqa: PLC0415

        found: list[bytes] = []
        for event in split_events(events):
            error = error_of_event(event, loads_or_none(data_of(event)), is_question=is_question)
            found.append(without(self.token, event) if error else event)
        return b"".join(found)

    @property
    def server_name(self) -> str | None:
        """The server's name in the servers file."""
        return self.server.name if self.server else None

    @property
    def model(self) -> str | None:
        """The model that the server was asked for."""
        return self.sent.model if self.sent else None


def without(token: str, quoting: bytes) -> bytes:
    """What quotes a token, in whatever spelling JSON allows, without it."""
    return re.sub("".join(map(_in_any_spelling, token)).encode(), b"...", quoting)


def _in_any_spelling(character: str) -> str:
    """A pattern for a character as JSON may have it."""
    escapable = r"\\?" if character in '/"\\' else ""
    return rf"(?:{escapable}{re.escape(character)}|\\u(?i:{ord(character):04x}))"


NOTHING = Delivery()
"""What a request gets that was refused before anybody was asked."""
