"""Servers that refuse to be asked for the usage of a stream. Pure, but for what is remembered of a sandbox.

The proxy adds `stream_options` to streamed chats, to have them metered. Where a server takes that for the client's
mistake, it is asked once more without, and not again like that. Its one rule: only what a server accepts afterwards is
remembered, so that nobody can talk a server's usage away with a prompt that looks like a refusal.
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
        """`server` has accepted a request without the question that it refused with it."""
        self._refused_by.add(server.name)


def refuses_usage(outcome: UpstreamResponse | Exception) -> bool:
    """Whether a request that asked for usage may have been refused because of that.

    The body of an answer is read, and comes again to whoever reads it afterwards.
    """
    if isinstance(outcome, UpstreamError):  # an error that came as a success says what it is in its message
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
    """The beginning of what an error says, also where its server packs it unasked. Raises UpstreamError."""
    codings = codings_of(answer)
    if not codings:
        return said
    from proxy.http.compression import decompressed  # noqa: PLC0415  # few servers need it, and zlib takes time to load

    return next(iter(decompressed([said], codings, "")), b"")
