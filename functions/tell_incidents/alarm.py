"""A change of an alarm's state, as CloudWatch sends it to a topic. Pure."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from openai_proxy.throttles.incident import Kind

_KINDS: Mapping[str, Kind] = {"client-throttles": "client", "upstream-throttles": "upstream"}
_OFFSET = re.compile(r"([+-]\d{2})(\d{2})$")


class AlarmChange(NamedTuple):
    """An alarm's name, whether it is in ALARM, since when (Unix seconds), and what kind of throttles it is about."""

    name: str
    is_alarm: bool
    at: float
    kind: Kind


def change_of(message: str) -> AlarmChange | None:
    """The change that a message reports; None for an alarm that is not about throttles. Raises ValueError for a message
    that no alarm has sent.
    """
    try:
        alarm: Any = json.loads(message)
        name, state, at = alarm["AlarmName"], alarm["NewStateValue"], alarm["StateChangeTime"]
        kind: Kind | None = next((kind for part, kind in _KINDS.items() if part in name), None)
        if kind is None or state not in ("ALARM", "OK"):
            return None
        moment = datetime.fromisoformat(_OFFSET.sub(r"\1:\2", at))
        return AlarmChange(name, state == "ALARM", moment.timestamp(), kind)
    except (KeyError, TypeError) as error:
        raise ValueError("not the message of an alarm") from error
