"""How client keys are shown. Neither a key nor the whole of its hash ever is."""

import textwrap
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from openai_proxy.client_keys import ATTRIBUTES, LIMITS, RESETS, CachePolicy
from openai_proxy.events.envelope import rfc3339

from console.keys.store import StoredKey
from console.tables import Columns, table
from console.text import count, harmless

# In the order in which they are shown.
LABELS = {
    "client_id": "Client",
    "name": "Name",
    "owner": "Owner",
    "tags": "Tags",
    "enabled": "Enabled",
    "created_at": "Created",
    "expires_at": "Expires",
    "servers": "Servers",
    "models": "Models",
    "rpm": "Requests a minute",
    "tpm": "Tokens a minute",
    "parallel": "Parallel requests",
    "budget_day": "Budget a day",
    "budget_week": "Budget a week",
    "budget_month": "Budget a month",
    "budget_total": "Budget in total",
    "reset_weekday": "Weeks begin",
    "reset_day": "Months begin",
    "team": "Team",
    "cache": "Response cache",
    "limits_id": "Counted with",
    "rotated_at": "Rotated",
    "replaced_by": "Replaced by",
}
_NOT_SET = {
    **dict.fromkeys(("servers", "models"), "all"),
    **dict.fromkeys(LIMITS, "no limit"),
    "reset_weekday": "monday",
    "reset_day": "1",
    "expires_at": "never",
    "cache": "as of the server",
}
_OPTIONAL = ("budget_week", "budget_total", *RESETS, "team", "limits_id", "rotated_at", "replaced_by")
_LIMITS = {
    "rpm": "{} rpm",
    "tpm": "{} tpm",
    "parallel": "{} parallel",
    "budget_day": "{}/day",
    "budget_week": "{}/week",
    "budget_month": "{}/month",
    "budget_total": "{} in total",
}
_TWO_DAYS = 2 * 86400
_LABEL_WIDTH = max(len(label) for label in LABELS.values()) + 2


def as_json(key: StoredKey, now: float) -> dict[str, Any]:
    """All that may be shown of a key, for `to_json`. What is not set is null or empty."""
    values: dict[str, Any] = dict.fromkeys(ATTRIBUTES) | key.values
    del values["key_hash"]
    cache: CachePolicy | None = values["cache"]
    return {
        "key_id": key.key_id,
        "state": key.state(now),
        **values,
        "servers": list(values["servers"] or ()),
        "models": list(values["models"] or ()),
        "tags": values["tags"] or {},
        "cache": cache._asdict() if cache else None,
        "limits_id": key.limits_id,
        "problems": key.problems,
    }


def keys_table(keys: Iterable[StoredKey], now: float, width: int | None) -> str:
    """What matters of each key, in lines of up to `width` characters."""
    rows = [
        (
            key.key_id,
            harmless(key.client_id),
            harmless(key.name),
            key.state(now),
            _time_left(key.values.get("expires_at"), now),
            "damaged" if key.problems else limits(key) or "none",
            text_of(key, "servers"),
            text_of(key, "models"),
        )
        for key in keys
    ]
    headings = ("KEY ID", "CLIENT", "NAME", "STATE", "EXPIRES", "LIMITS", "SERVERS", "MODELS")
    return table(Columns(headings, whole=("KEY ID", "STATE", "EXPIRES")), rows, width=width)


def key_details(key: StoredKey, now: float, width: int | None) -> str:
    """Every attribute of a key, a line or more for each."""
    lines = [_line("Key id", key.key_id, width), _line("State", _state(key, now), width)]
    for name, label in LABELS.items():
        if name == "enabled":
            continue  # the state says it
        if name in key.item or name not in _OPTIONAL:
            lines.append(_line(label, text_of(key, name), width))
    lines += [_line("Damaged", problem, width) for problem in key.problems]
    if unknown := sorted(key.item.keys() - ATTRIBUTES.keys()):
        lines.append(_line("Without effect", harmless(", ".join(unknown)), width))
    return "\n".join(lines)


def whose(key: StoredKey) -> str:
    """The key in words: its id, its client and its name."""
    return f"{key.key_id} of '{harmless(key.client_id)}' ({harmless(key.name)})"


def changes(before: StoredKey, after: StoredKey) -> list[str]:
    """What a change changed, a line for each attribute."""
    both = [(label, text_of(before, name), text_of(after, name)) for name, label in LABELS.items()]
    return [f"{label}: {old} → {new}" for label, old, new in both if old != new]


def may_do(key: StoredKey) -> str:
    """All that a key may do, in one line: servers, models, limits, team, cache and its end."""
    expires_at = key.values.get("expires_at")
    parts = [
        f"servers {text_of(key, 'servers')}",
        f"models {text_of(key, 'models')}",
        limits(key) or "no limits",
        *([f"team {text_of(key, 'team')}"] if "team" in key.item else []),
        f"response cache {text_of(key, 'cache')}",
        *(["content is logged"] if key.values.get("log_content") else []),
        f"good until {moment(expires_at)}" if expires_at else "never expires",
    ]
    return "; ".join(harmless(part) for part in parts)


def limits(key: StoredKey) -> str:
    """The limits and budgets of a key in one line; "" when there are none."""
    return limits_text(key.values)


def limits_text(attributes: Mapping[str, Any]) -> str:
    """The limits and budgets among attributes that were read in one line; "" when there are none."""
    values = ((form, attributes.get(name)) for name, form in _LIMITS.items())
    return ", ".join(form.format(_short(value)) for form, value in values if value is not None)


def text_of(key: StoredKey, name: str) -> str:
    """One attribute of a key as text."""
    return "damaged" if name in key.item and name not in key.values else _text(name, key.values.get(name))


def moment(unix_seconds: float) -> str:
    """A time to a minute."""
    return _minute(rfc3339(unix_seconds))


def _state(key: StoredKey, now: float) -> str:
    state = key.state(now)
    if state == "damaged":
        return "damaged: refused with 503 until it is mended with `keys update`"
    return f"{state}: good until it expires" if state == "rotated" else state


def _text(name: str, value: Any) -> str:  # noqa: PLR0911 - a line for each type
    match value:
        case None:
            return _NOT_SET.get(name, "-")
        case bool():
            return "yes" if value else "no"
        case int() if name == "expires_at":
            return moment(value)
        case int():
            return count(value)
        case Decimal():
            return _short(value)
        case CachePolicy():
            shared = f", pool {value.pool}" if value.pool else ""
            return f"on: {count(value.ttl or 0)} s{shared}" if value.mode == "on" else "off"
        case tuple():
            names: tuple[str, ...] = value  # pyright: ignore[reportUnknownVariableType]
            return ", ".join(names)
        case dict():
            tags: dict[str, str] = value  # pyright: ignore[reportUnknownVariableType]
            return ", ".join(f"{tag}={text}" for tag, text in sorted(tags.items())) or "-"
        case _:
            return _minute(value) if name in ("created_at", "rotated_at") else str(value)


def _short(number: int | Decimal) -> str:
    if isinstance(number, Decimal):
        return f"{number.normalize():,f} USD"
    for size, unit in ((10**6, "M"), (1000, "k")):
        if number >= 10 * size and number % size == 0:
            return f"{number // size:,}{unit}"
    return count(number)


def _minute(timestamp: str) -> str:
    return f"{timestamp[:16].replace('T', ' ')} UTC"


def _time_left(expires_at: int | None, now: float) -> str:
    if expires_at is None:
        return "never"
    left = expires_at - now
    if not 0 < left < _TWO_DAYS:
        return rfc3339(expires_at)[:10]
    return f"in {left / 3600:.0f} h" if left >= 3600 else f"in {left / 60:.0f} min"


def _line(label: str, text: str, width: int | None) -> str:
    return textwrap.fill(
        text,
        width=max(width or 100, 2 * _LABEL_WIDTH),
        initial_indent=label.ljust(_LABEL_WIDTH),
        subsequent_indent=" " * _LABEL_WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
    )
