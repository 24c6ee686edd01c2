"""The counts that a request's body asks for: how many answers, and how many tokens each of them may have. Pure.

Its one rule: a number from a client is bounded here, before anything is computed with it. A count that no model accepts
is the client's mistake. A value that is no count at all is left to the server to refuse, and counts as missing.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from proxy.errors import ClientError
from proxy.json_shapes import array_of

MOST_TOKENS = 2**31 - 1
"""No model gives as many; clients that want no bound send it, and servers keep the count in 32 bits."""
MOST_ANSWERS = 1024
"""To one prompt: OpenAI makes up to 128."""

_TOKENS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_ANSWERS = ("n", "best_of")
_NUMBER = re.compile(r"\+?(\d++(\.\d*+)?|\.\d++)([eE][+-]?\d++)?")
"""Written so that there is one way to read a text: two would cost the square of the time that megabytes take."""


class AskedCounts(NamedTuple):
    """`tokens` are the most that one answer may have, None when the client does not say. `answers` is 1 or more."""

    tokens: int | None = None
    answers: int = 1


def asked_counts(fields: Mapping[str, Any]) -> AskedCounts:
    """The counts in a body. If two fields give the same count, the larger holds. Raises ClientError, which names the
    field.
    """
    tokens = [_count(name, fields[name], MOST_TOKENS) for name in _TOKENS if name in fields]
    answers = [_count(name, fields[name], MOST_ANSWERS) for name in _ANSWERS if name in fields]
    return AskedCounts(max(tokens, default=0) or None, max([1, *answers]) * _prompts(fields.get("prompt")))


def _count(name: str, value: Any, most: int) -> int:
    """A whole number from 0 to `most`. A fraction is rounded up; a number in quotes counts, because lenient servers
    accept it.
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    if value > most:
        message = f"Invalid '{name}': no model takes more than {most}."
        raise ClientError(400, "integer_above_max_value", message, param=name)
    return math.ceil(value)


def _prompts(prompt: Any) -> int:
    """How many prompts a text completion has: each text, and each list of tokens, is one."""
    return max(sum(isinstance(each, str | list) for each in array_of(prompt)), 1)
