"""Whether a server that failed is asked again at once, and after which pause. Pure.

Its one rule: repetitions by the proxy and by the client must not multiply. SDKs repeat a call that failed for now, up
to two times, and wait as long as the server asks. So the proxy repeats only failures that pass quickly, tells the
client when it did (`x-should-retry: false`), and leaves it to the client when the server names a time. For a client
that is repeating already, as `x-stainless-retry-count` says, or that repeats whatever it is told, the proxy does not
repeat. Together they call a server three times at most, where both have their defaults, and never more often than the
client alone would.
"""

import math
import re
from collections.abc import Callable, Mapping

from proxy.errors import ProxyError, UpstreamError
from proxy.timeline import Timeline
from proxy.upstream.opened import OpenedAnswer

ENOUGH = {"x-should-retry": "false"}
"""Tells the SDKs of OpenAI and Anthropic not to repeat a call, whatever its status says."""
_REPEATS_ANYWAY = re.compile(r"\bai-sdk/|^codex|^DSPy/")
"""In the `user-agent` of clients that repeat what failed and do not read `x-should-retry`: the Vercel AI SDK, what is
built on it, as opencode is, codex, whose own repetitions multiply already (thirty calls for one question), and DSPy."""
_NOT_BY_REPEATING = frozenset(
    {"upstream_authentication_failed", "upstream_redirect", "server_not_configured", "deadline_exceeded"}
)
"""Codes of errors that a repetition cannot mend, or that it would take as long to get to again."""
_NOT_NOW = frozenset({408, 429, 500, 502, 503, 504, 529})
_TOKEN_REFUSED = 401
_OF_THE_WIRE = frozenset({"upstream_unreachable", "upstream_broken_off"})
_OF_THE_ANSWER = frozenset({"upstream_error", "upstream_no_answer"})
"""Codes of what a server answered as a success: their status says what it is worth."""
_FIRST_PAUSE = 0.25
"""Seconds, up to half of it more or less: never longer than the shortest first pause of an SDK, 0.375."""
_LONGEST_PAUSE = 5.0


def is_final(outcome: OpenedAnswer | ProxyError) -> bool:
    """Whether no other server would answer better."""
    if isinstance(outcome, ProxyError) and outcome.code not in _OF_THE_ANSWER:
        return False
    return outcome.status not in _NOT_NOW and outcome.status != _TOKEN_REFUSED


def most_repeats(retries: int, headers: Mapping[str, str]) -> int:
    """How often a server with these `retries` is asked again for a request with these headers, in lower case."""
    count = headers.get("x-stainless-retry-count", "")
    if count.isdecimal() and count.strip("0"):
        return 0
    return 0 if _REPEATS_ANYWAY.search(headers.get("user-agent", "")) else retries


def pause_after(outcome: OpenedAnswer | UpstreamError, tried: int, chance: Callable[[], float]) -> float | None:
    """Seconds before it makes sense to ask again; None if it does not, or if that is left to the client."""
    if isinstance(outcome, UpstreamError) and outcome.code in _OF_THE_WIRE:
        return _pause(tried, chance)
    if isinstance(outcome, UpstreamError) and outcome.code not in _OF_THE_ANSWER:
        return None
    headers = outcome.headers
    if outcome.status not in _NOT_NOW or says_when(headers) or headers.get("x-should-retry") == "false":
        return None
    return _pause(tried, chance)


def _pause(tried: int, chance: Callable[[], float]) -> float:
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tried * (0.5 + chance()))


def told_of(error: ProxyError | None, timeline: Timeline) -> Mapping[str, str]:
    """The headers that tell the client of an error whether to repeat the call. `error` is the proxy's own, if it is
    one.
    """
    return ENOUGH if timeline.has_repeated or (error and error.code in _NOT_BY_REPEATING) else {}


def says_when(headers: Mapping[str, str]) -> bool:
    """Whether a server names the time at which it may be asked again, in a form that the SDKs read."""
    if retry_after(headers) is not None:
        return True
    if not (date := headers.get("retry-after")):
        return False
    from email.utils import parsedate_tz  # noqa: PLC0415  # hardly any server names a date

    try:
        return parsedate_tz(date) is not None
    except (IndexError, ValueError):  # some texts that are no date raise this
        return False


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `retry-after-ms`, or else of `Retry-After`, whose other form, a date, is not read here."""
    for name, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers[name]) / divisor
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None
