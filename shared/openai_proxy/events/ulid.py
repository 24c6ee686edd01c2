"""ULIDs: 128-bit ids that sort by the millisecond they were made in (https://github.com/ulid/spec).

Crockford base32, 26 characters: 48 bits of Unix milliseconds, then 80 random bits.
"""

import hashlib
import os
from datetime import UTC, datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
LENGTH = 26


def new_ulid(unix_time: float) -> str:
    """A fresh ULID for `unix_time` (seconds since the epoch)."""
    return _ulid(unix_time, os.urandom(10))


def first_ulid_of(unix_time: float) -> str:
    """The least ULID of `unix_time`: all that were made earlier are less."""
    return _ulid(unix_time, bytes(10))


def ulid_of_fact(unix_time: float, fact: str) -> str:
    """The ULID of a fact of `unix_time`: whoever states the same fact gets the same id."""
    return _ulid(unix_time, hashlib.sha256(fact.encode(errors="surrogatepass")).digest()[:10])


def _ulid(unix_time: float, low: bytes) -> str:
    number = (int(unix_time * 1000) << 80) | int.from_bytes(low, "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def is_ulid(text: str) -> bool:
    """Whether a text is a ULID."""
    return len(text) == LENGTH and all(character in _VALUES for character in text) and text[0] <= "7"


def ulid_time(ulid: str) -> datetime:
    """When `ulid` was made, in UTC, exact to the millisecond. Raises ValueError for anything but a ULID."""
    if not is_ulid(ulid):
        raise ValueError(f"not a ULID: {ulid!r}")
    milliseconds = 0
    for character in ulid[:10]:
        milliseconds = milliseconds << 5 | _VALUES[character]
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def ulid_day(ulid: str) -> str:
    """The UTC day of `ulid` as YYYY-MM-DD: the day its request is charged to."""
    return ulid_time(ulid).strftime("%Y-%m-%d")
