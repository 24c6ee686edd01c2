"""From an InferenceThrottled to what the costs table keeps of it: an entry, and its share of two rollups. Pure.

One rule: it is never a cost. These items stand beside the ledger's, under keys of their own, and no sum of costs reads
them; they are written as the ledger's are, so that an event counts once however often it comes.

    entry    pk throttled#<client_id>#<day>   sk <ulid>                                  one refused request
    rollup   pk throttles#<hour>              sk <client_id>#<source>#<server>#<model>   sums over an hour (UTC)
    rollup   pk throttles#<day>               sk the same                                sums over a day (UTC)

A rollup also says what was true of its latest requests: whose limit it was and what it was. Clients choose the names of
models, and what was refused no server has confirmed: of each client a few names an hour have rollups of their own.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.ulid import ulid_time
from openai_proxy.ledger.entries import (
    RETENTION,
    Attributes,
    LedgerEntry,
    Rollup,
    attributes_of,
    attribution_of,
    seconds_of,
    text_of,
)
from openai_proxy.ledger.entry_cost import UNNAMED
from openai_proxy.metric_data import OTHER

if TYPE_CHECKING:
    from openai_proxy.events.types import ThrottledEvent

MOST_MODELS = 20
"""Models of one client and hour with rollups of their own; the rest are one, `other`."""
_MOST_REMEMBERED = 1000
_LONGEST_SOURCE = 32
_AMOUNT = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)

ModelNamer = Callable[[str, str, str], str]
"""Client, hour and model ─▶ the name in the rollups' keys."""


class FewModels:
    """Which models of a client have rollups of their own: the first of an hour that this sandbox has seen."""

    def __init__(self, most: int = MOST_MODELS) -> None:
        self._most = most
        self._seen: dict[tuple[str, str], set[str]] = {}

    def __call__(self, client_id: str, hour: str, model: str) -> str:
        """The name in the rollups' keys."""
        if (client_id, hour) not in self._seen and len(self._seen) >= _MOST_REMEMBERED:
            self._seen.clear()
        seen = self._seen.setdefault((client_id, hour), set())
        if model not in seen and len(seen) >= self._most:
            return OTHER
        seen.add(model)
        return model


def throttle_entry_of(event: "ThrottledEvent", names: ModelNamer) -> LedgerEntry:
    """The entry of an InferenceThrottled. Raises MalformedEventError."""
    try:
        arrived = ulid_time(event.id)
        day, hour = arrived.strftime("%Y-%m-%d"), arrived.strftime("%Y-%m-%dT%H")
        attributes = attributes_of(event) | {"day": day} | attribution_of(event.data) | _throttle(event)
        attributes["expires_at"] = int((arrived + RETENTION).timestamp())
        model = names(event.client_id, hour, attributes.get("model", UNNAMED))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error
    return LedgerEntry(
        key=(f"throttled#{event.client_id}#{day}", event.id),
        attributes=attributes,
        rollups=tuple(_rollup(name, value, model, attributes) for name, value in (("hour", hour), ("day", day))),
        share={"requests": 1, "retry_after": seconds_of(event.data["throttle"]["retry_after"] or 0)},
        event_id=event.id,
    )


def _throttle(event: "ThrottledEvent") -> Attributes:
    """What refused the request; amounts are decimal text. Events of before say less."""
    throttle = event.data["throttle"]
    subject = throttle.get("subject")
    attributes: dict[str, Any] = {
        "throttle_source": text_of(throttle["source"], _LONGEST_SOURCE) or UNNAMED,
        "throttle_subject": text_of(subject["type"]) if subject else None,
        "throttle_subject_id": text_of(subject["id"]) if subject else None,
        "throttle_span": text_of(throttle.get("span")),
        "throttle_limit": _amount(throttle.get("limit")),
        "throttle_used": _amount(throttle.get("used")),
        "throttle_asked": _amount(throttle.get("asked")),
        "retry_after": None if throttle["retry_after"] is None else seconds_of(throttle["retry_after"]),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _amount(value: Any) -> str | None:
    if value is not None and not _AMOUNT.fullmatch(value):
        raise ValueError(f"{value!r} is not an amount")
    return value


LATEST = (
    *("throttle_subject", "throttle_subject_id", "throttle_span", "throttle_limit", "throttle_used"),
    *("key_id", "client_name", "team", "expires_at"),
)
"""What a rollup says of its latest requests."""


def _rollup(period: str, value: str, model: str, entry: Attributes) -> Rollup:
    client, source, server = entry["client_id"], entry["throttle_source"], entry.get("server", UNNAMED)
    names = {period: value, "client_id": client, "source": source, "server": server, "model": model}
    latest = {name: entry[name] for name in LATEST if name in entry}
    return Rollup((f"throttles#{value}", f"{client}#{source}#{server}#{model}"), names | latest)
