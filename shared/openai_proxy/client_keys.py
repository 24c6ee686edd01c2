"""Client keys: their form, and what may be stored about one. Pure.

A key is `opx-`, 43 base62 characters (256 random bits), 6 base62 characters of CRC-32 over all before. The checksum
lets garbage be refused without a look-up, and lets secret scanners tell a key from an accident.

Two rules. A key is shown once, where it is made; only its hash is stored. And an attribute of a stored key is either
absent or fit: the console writes nothing else, and the authorizer lets nobody in with anything else, so that a damaged
limit never means no limit.
"""

import hashlib
import re
import secrets
import zlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from openai_proxy.limits import LAST_RESET_DAY, WEEKDAYS

PREFIX = "opx-"
ANONYMOUS_CLIENT = "anonymous"
"""The client that everybody is where nobody needs a key: no key is of that client."""
CLIENTS_OF_SERVERS = "token."
"""How the clients are called, each with its server's name, who come with the token of a server: no key is theirs."""
KEY_ID_LENGTH = 12
LONGEST_CLIENT_ID = 64
TEAM_PREFIX = "team#"
"""The key of a team's item in the key table begins with it. That of a client key is a hash, and never does."""
MOST_TAGS = 16
MOST_NAMES = 100

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 43
_CHECKSUM_LENGTH = 6
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}")
_KEY_IN_TEXT = re.compile(rf"{PREFIX}[0-9A-Za-z]{{20,}}", re.IGNORECASE)


def new_client_key() -> str:
    """A fresh key of 53 characters."""
    body = PREFIX + _base62(secrets.randbits(256), _SECRET_LENGTH)
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Whether `key` has the form and the checksum of a client key. Says nothing about whether it exists."""
    return _FORM.fullmatch(key) is not None and _checksum(key[:-_CHECKSUM_LENGTH]) == key[-_CHECKSUM_LENGTH:]


def hash_client_key(key: str) -> str:
    """The hex SHA-256 under which `key` is stored. A key has 256 random bits, so the hash needs neither salt nor
    stretching.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def key_id_of(key_hash: str) -> str:
    """An id for a key that does not reveal the key: the beginning of its hash."""
    return key_hash[:KEY_ID_LENGTH]


def client_of_server(name: str) -> str:
    """The client id of whoever calls with the token of this server. It has the length of a client id, and belongs to
    this server alone.

    If the server's name is too long, the id has its beginning and a hash of the whole name.
    """
    if len(CLIENTS_OF_SERVERS + name) <= LONGEST_CLIENT_ID:
        return CLIENTS_OF_SERVERS + name
    ending = "." + hashlib.sha256(name.encode()).hexdigest()[:KEY_ID_LENGTH]
    return (CLIENTS_OF_SERVERS + name)[: LONGEST_CLIENT_ID - len(ending)] + ending


def without_keys(text: str) -> str:
    """`text` with everything in it that looks like a client key, or a good part of one, made illegible."""
    return _KEY_IN_TEXT.sub(f"{PREFIX}…", text)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits


class CachePolicy(NamedTuple):
    """Whether answers may come from the response cache. `ttl` is in seconds; keys of one `pool` share answers.

    Without a pool, answers are for one key, and those it is rotated into. A policy that is off overrides a server's.
    """

    mode: str
    ttl: int | None = None
    pool: str | None = None


def read_attributes(item: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The attributes in an item of the key table, and all that is wrong with it.

    `item` has plain values: str, bool, int or Decimal, list, dict. The values returned are typed: whole numbers int,
    money Decimal, lists tuples; what is absent, unknown or unfit is left out. Each problem names an attribute and what
    it must be, never what it is.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, attribute in ATTRIBUTES.items():
        if name not in item:
            if name in REQUIRED:
                problems.append(f"{name} is missing")
            continue
        value = attribute.read(item[name])
        if value is None:
            problems.append(f"{name} must be {attribute.rule}")
        else:
            values[name] = value
    return values, problems


LIMITS = (
    *("rpm", "tpm", "parallel", "budget_day", "budget_week", "budget_month", "budget_total"),
    *("reset_weekday", "reset_day"),
)
"""What a key may take, in the order in which it is shown. Each is a field of `key_context.Limits` too."""
BUDGETS = tuple(name for name in LIMITS if name.startswith("budget_"))
BUDGET_OF_RESET: Mapping[str, str] = {"reset_weekday": "budget_week", "reset_day": "budget_month"}
"""When weeks and months begin, and the budget to which that matters."""
RESETS = tuple(BUDGET_OF_RESET)
"""These say when budgets begin anew, and limit nothing themselves."""


def limits_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """The limits among the attributes that were read; None where they limit nothing."""
    found = {name: values[name] for name in LIMITS if name in values}
    return found if found.keys() - set(RESETS) else {}


def team_key(name: str) -> str:
    """The key of a team's item in the key table."""
    return f"{TEAM_PREFIX}{name}"


def read_team(name: str, item: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The attributes in a team's item, and all that is wrong with it: like `read_attributes`, for limits and
    budgets.
    """
    return read_attributes({**item, "key_hash": "0" * 64, "client_id": "team", "name": name, "enabled": True})


class Attribute(NamedTuple):
    """How one attribute is read: `read` gives None for what does not keep to `rule`."""

    rule: str
    read: Callable[[Any], Any]


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _form(pattern: str) -> Callable[[Any], str | None]:
    form = re.compile(pattern)
    return lambda value: value if isinstance(value, str) and form.fullmatch(value) else None


def _printable(most: int) -> Callable[[Any], str | None]:
    def read(value: Any) -> str | None:
        # Characters that control a terminal (escape sequences, reversed text) are not printable.
        fits = isinstance(value, str) and value.isprintable() and 0 < len(value.strip()) == len(value) <= most
        return value if fits else None

    return read


def _whole(least: int, most: int) -> Callable[[Any], int | None]:
    def read(value: Any) -> int | None:
        number = _number(value)
        return int(number) if number is not None and least <= number <= most and number == int(number) else None

    return read


def _money(value: Any) -> Decimal | None:
    amount = _number(value)
    if amount is None or not 0 < amount <= _MOST_MONEY:
        return None
    return amount if amount == amount.quantize(_MILLIONTH) else None


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    return number if number.is_finite() else None


def _names(read_one: Callable[[Any], str | None]) -> Callable[[Any], tuple[str, ...] | None]:
    def read(value: Any) -> tuple[str, ...] | None:
        # An empty list could mean nothing or everything, so it is refused.
        if not isinstance(value, list | tuple) or not 0 < len(value) <= MOST_NAMES:  # pyright: ignore[reportUnknownArgumentType]
            return None
        names = [read_one(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        return tuple(name for name in names if name is not None) if None not in names else None

    return read


def _tags(value: Any) -> dict[str, str] | None:
    if not isinstance(value, Mapping) or len(value) > MOST_TAGS:  # pyright: ignore[reportUnknownArgumentType]
        return None
    tags: dict[str, str] = {}
    for name, text in value.items():  # pyright: ignore[reportUnknownVariableType]
        if _label(name) is None or not isinstance(text, str) or len(text) > 128 or not text.isprintable():
            return None
        tags[str(name)] = text  # pyright: ignore[reportUnknownArgumentType]
    return tags


def _cache(value: Any) -> CachePolicy | None:
    if not isinstance(value, Mapping) or not value.keys() <= {"mode", "ttl", "pool"}:  # pyright: ignore[reportUnknownMemberType]
        return None
    parts: dict[str, Any] = {**value}
    if parts.get("mode") not in ("on", "off"):
        return None
    policy = CachePolicy(parts["mode"], _seconds(parts.get("ttl")), _label(parts.get("pool")))
    unfit = ("ttl" in parts and policy.ttl is None) or ("pool" in parts and policy.pool is None)
    incomplete = policy.mode == "on" and policy.ttl is None
    return None if unfit or incomplete else policy


def _model(value: Any) -> str | None:
    name = _printable(128)(value)
    return name if name and "," not in name and "*" not in name[:-1] else None


_MILLIONTH = Decimal("0.000001")
_MOST_MONEY = Decimal(1_000_000_000)
_END_OF_9999 = 253_402_300_799
_label = _form(r"[A-Za-z0-9_.-]{1,64}")
_client_id = _form(rf"(?!{re.escape(ANONYMOUS_CLIENT)}\Z|{re.escape(CLIENTS_OF_SERVERS)})[A-Za-z0-9_.-]{{1,64}}")
_key_id = _form(rf"[0-9a-f]{{{KEY_ID_LENGTH}}}")
_seconds = _whole(1, 31_536_000)

_NAME_RULE = "1 to 64 letters, digits, '_', '.' and '-'"
_TEXT_RULE = "1 to 128 printable characters, without blanks around them"
_COUNT = Attribute("a whole number from 1 to 1,000,000,000", _whole(1, 1_000_000_000))
_BUDGET = Attribute("more than 0 and at most 1,000,000,000, with at most 6 decimals", _money)
_ID = Attribute("a key id: 12 hexadecimal digits", _key_id)
_TIME = Attribute("a time as text", _printable(64))

REQUIRED = frozenset({"key_hash", "client_id", "name", "enabled"})
ATTRIBUTES: Mapping[str, Attribute] = {
    "key_hash": Attribute("64 hexadecimal digits", _form(r"[0-9a-f]{64}")),
    "client_id": Attribute(
        f"{_NAME_RULE}. '{ANONYMOUS_CLIENT}' and '{CLIENTS_OF_SERVERS}…' are for requests without a client key",
        _client_id,
    ),
    "name": Attribute(_TEXT_RULE, _printable(128)),
    "owner": Attribute(_TEXT_RULE, _printable(128)),
    "tags": Attribute(f"at most {MOST_TAGS}, with names of {_NAME_RULE}, values of up to 128 characters", _tags),
    "enabled": Attribute("true or false", _flag),
    "created_at": _TIME,
    "expires_at": Attribute("a time in Unix seconds", _whole(0, _END_OF_9999)),
    "servers": Attribute(
        f"1 to {MOST_NAMES} names as in openai_servers.yaml, each given by itself",
        _names(_form(r"[a-z0-9][a-z0-9_-]{0,63}")),
    ),
    "models": Attribute(
        f"1 to {MOST_NAMES} names, each given by itself: of up to 128 characters, without commas, '*' only as the last",
        _names(_model),
    ),
    "limits_id": _ID,
    "team": Attribute("a team's name: 1 to 48 letters, digits, '_', '.' and '-'", _form(r"[A-Za-z0-9_.-]{1,48}")),
    "rpm": _COUNT,
    "tpm": _COUNT,
    "parallel": _COUNT,
    "budget_day": _BUDGET,
    "budget_month": _BUDGET,
    "budget_week": _BUDGET,
    "budget_total": _BUDGET,
    "reset_weekday": Attribute(f"one of {', '.join(WEEKDAYS)}", _form("|".join(WEEKDAYS))),
    "reset_day": Attribute(f"a whole number from 1 to {LAST_RESET_DAY}", _whole(1, LAST_RESET_DAY)),
    "currency": Attribute("USD, the currency of the price book", _form("USD")),
    "cache": Attribute(
        f"on or off, with a ttl of 1 to 31,536,000 seconds when it is on, and maybe a pool of {_NAME_RULE}", _cache
    ),
    "log_content": Attribute("true or false", _flag),
    "resumable": Attribute("true or false", _flag),
    "on_disconnect": Attribute("finish or stop", _form("finish|stop")),
    "rotated_at": _TIME,
    "replaced_by": _ID,
}
"""Every attribute of an item, in the order in which it is shown to people."""
