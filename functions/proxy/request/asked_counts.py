"""The counts that a request's body asks for: how many answers, and how many tokens each of them may have. Pure.

Its one rule: a number from a client is bounded here, before anything is computed with it. A count that no model accepts
is the client's mistake. A value that is no count at all is left to the server to refuse, and counts as missing.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from proxy.errors import ClientError
from proxy.json_shapes import array_of

MOST_TOKENS = 2**31 - 1
"""No model gives as many; clients that want no bound send it, and servers keep the count in 32 bits."""
MOST_ANSWERS = 1024
"""To one prompt: OpenAI makes up to 128."""

TOKENS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
ANSWERS = ("n", "best_of")
_BOUNDS: Mapping[str, Collection[str]] = {
    "/chat/completions": ("max_completion_tokens", "max_tokens"),
    "/completions": ("max_tokens",),
    "/responses": ("max_output_tokens",),
    "/messages": ("max_tokens",),
}
"""What bounds an answer of each API. Elsewhere, servers pass over these fields and bound nothing."""
_NUMBER = re.compile(r"\+?(\d++(\.\d*+)?|\.\d++)([eE][+-]?\d++)?")
"""Written so that there is one way to read a text: two would cost the square of the time that megabytes take."""
_IN_OTHER_BASE = re.compile(r"\+?0(?:[xX][0-9a-fA-F]{1,200}|[oO][0-7]{1,200}|[bB][01]{1,200})")


class AskedCounts(NamedTuple):
    """`tokens` are the most that one answer may have, None when the client does not say. `answers` is 1 or more."""

    tokens: int | None = None
    answers: int = 1


def asked_counts(fields: Mapping[str, Any], path: str) -> AskedCounts:
    """The counts in what is sent to `path`. If two fields give the same count, the larger holds. Raises ClientError,
    which names the field.
    """
    tokens = {name: _count(name, fields[name], MOST_TOKENS) for name in TOKENS if name in fields}
    answers = [_count(name, fields[name], MOST_ANSWERS) for name in ANSWERS if name in fields]
    is_bound = any(tokens.get(name) for name in _BOUNDS.get(path, ()))
    most = max(tokens.values()) if is_bound else None
    return AskedCounts(most, max([1, *answers]) * _prompts(fields.get("prompt")))


def number_in(text: str) -> float | None:
    """The number that lenient servers read in a text: with blanks around it, underscores, or in base 16, 8 or 2."""
    plain = text.strip().replace("_", "")
    if _NUMBER.fullmatch(plain):
        return float(plain)
    return float(int(plain, 0)) if _IN_OTHER_BASE.fullmatch(plain) else None


def _count(name: str, value: Any, most: int) -> int:
    """A whole number from 0 to `most`. A fraction is rounded up; a number in quotes counts, because lenient servers
    accept it.
    """
    if isinstance(value, str):
        value = number_in(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    if value > most:
        message = f"Invalid '{name}': no model takes more than {most}."
        raise ClientError(400, "integer_above_max_value", message, param=name)
    return math.ceil(value)


def _prompts(prompt: Any) -> int:
    """How many prompts a text completion has: each text, and each list of tokens, is one."""
    return max(sum(isinstance(each, str | list) for each in array_of(prompt)), 1)
