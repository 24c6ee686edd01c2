"""Servers that refuse to report the usage of a stream. Pure, except for what a sandbox remembers.

The proxy adds `stream_options` to streamed chats, to have them metered. If a server rejects that as a mistake, it is
asked once more without it, and from then on always without it. Its one rule: this is remembered only if the server
accepts the request without it. So a client cannot switch off a server's usage with a prompt that provokes an error.
"""

import re

from openai_proxy.servers import Server

from proxy.errors import UpstreamError
from proxy.http.transport import UpstreamResponse
from proxy.upstream.response import codings_of

_NOT_OF_THE_BODY = frozenset({401, 402, 403, 404, 408, 429, 502, 503, 504, 529})
_OF_THE_BODY = frozenset({400, 422})
_LONGEST = 64 * 1024
# Compiled when the first server refuses something, not in every cold start.
_NAMED = rb"(?i)stream_?options|include_?usage"
_UNNAMED = (
    rb"(?i)extra_forbidden|(?:extra|additional)[ _]+(?:inputs?|fields?|propert|param|arg|key)"
    rb"|(?:unrecogni[sz]ed|unknown|unexpected|unsupported|not[ _]supported|unallowed|disallowed|invalid)[ _]+"
    rb"(?:request[ _]+|keyword[ _]+|json[ _]+)?(?:arg|field|param|propert|key|option|member)"
)


class UsageRefusals:
    """What one sandbox has learned of its servers."""

    def __init__(self) -> None:
        self._refused_by = set[str]()

    def may_ask(self, server: Server) -> bool:
        """Whether `server` may be asked for the usage of a stream."""
        return server.include_usage and server.name not in self._refused_by

    def learn(self, server: Server) -> None:
        """Note that `server` has accepted a request without the option with which it had refused it."""
        self._refused_by.add(server.name)


def refuses_usage(outcome: UpstreamResponse | Exception) -> bool:
    """Whether the server may have refused a request because it asked for usage.

    This reads the body of the answer; whoever reads it afterwards gets all of it again.
    """
    if isinstance(outcome, UpstreamError):  # an error that came with a success status has it in its message
        return outcome.code == "upstream_error" and bool(re.search(_NAMED, outcome.message.encode(errors="replace")))
    if not isinstance(outcome, UpstreamResponse):
        return False
    if outcome.status < 400 or outcome.status in _NOT_OF_THE_BODY:
        return False
    try:
        said = _unpacked(outcome.peek(_LONGEST), outcome)
    except UpstreamError:
        return False
    if re.search(_NAMED, said):
        return True
    return outcome.status in _OF_THE_BODY and (not said.strip() or bool(re.search(_UNNAMED, said)))


def _unpacked(said: bytes, answer: UpstreamResponse) -> bytes:
    """The beginning of an error's body, unpacked if its server compresses. Raises UpstreamError."""
    codings = codings_of(answer)
    if not codings:
        return said
    from proxy.http.compression import decompressed  # noqa: PLC0415  # few servers need it, and zlib takes time to load

    return next(iter(decompressed([said], codings, "")), b"")
