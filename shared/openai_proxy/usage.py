"""`Usage`: how many tokens of each class one request used. Pure.

One rule: the usage in an event is checked where it is read, so nobody counts impossible figures.
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

if TYPE_CHECKING:
    from openai_proxy.events.usage_types import UsageData

UsageSource = Literal["reported", "estimated", "missing", "invalid", "none"]
"""Where the figures come from: the server reported them; the proxy estimated them; the server reported nothing
although the operation uses tokens (`missing`), or what cannot be (`invalid`): then the zeros are not a measurement; the
operation uses no tokens."""

UNKNOWN: tuple[UsageSource, ...] = ("missing", "invalid")
"""Of these, nobody knows how much was used."""

MOST_TOKENS = 10**12
MOST_SECONDS = 10**9
MOST_COST = 10**9
"""USD. What an answer says beyond these three is not believed."""
COST_DECIMALS = 18
"""Of a cost that a server states: as many as the lake keeps."""

# Patterns are compiled when they are first needed, which is in no cold start.
_COST = r"[0-9]{1,10}(\.[0-9]{1,18})?"
_REASON = r"[a-z_]{1,64}"
_TIER = r"[a-z0-9_.-]{1,32}"
_UNIT = r"[a-z0-9_]{1,48}"
_MOST_UNITS = 16
UNNAMED_TIER = "other"
"""What a service tier is called whose name is none."""


class Usage(NamedTuple):
    """Token counts as OpenTelemetry means them: `input_tokens` includes cached ones, `output_tokens` reasoning.

    Both include audio and image tokens, which have prices of their own. Image tokens that the server did not tell apart
    are None, not 0: a model that has another price for images cannot be priced without them.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    source: UsageSource = "missing"
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    duration: float | None = None
    """Seconds of audio, where an operation is billed by them."""
    input_image_tokens: int | None = None
    output_image_tokens: int | None = None
    reason: str | None = None
    """Why a report is `invalid`, or what of a `reported` one was not taken as it stood, in one word."""
    cost_reported: Decimal | None = None
    """USD that the server itself says the answer cost."""
    service_tier: str | None = None
    """How the server says that it served the request, such as `flex` or `priority`; prices may differ by it."""
    cache_creation_1h_input_tokens: int = 0
    """Those of `cache_creation_input_tokens` that stay in the cache for an hour, where a server tells them apart."""
    units: tuple[tuple[str, int], ...] = ()
    """How many there were of what is billed by the piece, by name: searches, other calls of tools that the server runs,
    pages."""

    def to_event(self) -> "UsageData":
        """The `data.usage` object of an event: OpenTelemetry GenAI attribute paths without the `gen_ai.` prefix."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read": {"input_tokens": self.cache_read_input_tokens},
            "cache_creation": {
                "input_tokens": self.cache_creation_input_tokens,
                "ephemeral_1h_input_tokens": self.cache_creation_1h_input_tokens,
            },
            "reasoning": {"output_tokens": self.reasoning_output_tokens},
            "audio": {"input_tokens": self.input_audio_tokens, "output_tokens": self.output_audio_tokens},
            "image": {"input_tokens": self.input_image_tokens, "output_tokens": self.output_image_tokens},
            "duration": self.duration,
            "source": self.source,
            "reason": self.reason,
            "cost_reported": None if self.cost_reported is None else f"{self.cost_reported:f}",
            "service_tier": self.service_tier,
            "units": dict(self.units),
        }

    @classmethod
    def from_event(cls, usage: "UsageData") -> Self:
        """The inverse of `to_event`. Raises KeyError, TypeError or ValueError for what does not follow the schema."""
        audio = usage.get("audio") or {"input_tokens": 0, "output_tokens": 0}  # older events have neither these …
        image = usage.get("image") or {"input_tokens": None, "output_tokens": None}  # … nor these
        figures = cls(
            input_tokens=usage["input_tokens"],
            output_tokens=usage["output_tokens"],
            cache_read_input_tokens=usage["cache_read"]["input_tokens"],
            cache_creation_input_tokens=usage["cache_creation"]["input_tokens"],
            reasoning_output_tokens=usage["reasoning"]["output_tokens"],
            source=usage["source"],
            input_audio_tokens=audio["input_tokens"],
            output_audio_tokens=audio["output_tokens"],
            duration=usage.get("duration"),
            input_image_tokens=image["input_tokens"],
            output_image_tokens=image["output_tokens"],
            reason=usage.get("reason"),
            cost_reported=_cost(usage.get("cost_reported")),
            service_tier=usage.get("service_tier"),
            cache_creation_1h_input_tokens=usage["cache_creation"].get("ephemeral_1h_input_tokens", 0),
            units=counted_units(usage.get("units") or {}),
        )
        figures._check()
        return figures

    def _check(self) -> None:
        if self.source not in get_args(UsageSource):
            raise ValueError(f"usage.source {self.source!r}")
        for name, value in zip(self._fields, self, strict=True):
            may_be_untold = self._field_defaults[name] is None
            if name.endswith("_tokens") and not (_is_count(value) or (value is None and may_be_untold)):
                raise ValueError(f"usage: {name} {value!r} is not a count")
        if self.duration is not None and not _is_duration(self.duration):
            raise ValueError(f"usage.duration {self.duration!r}")
        if self.reason is not None and not re.fullmatch(_REASON, self.reason):
            raise ValueError("usage.reason")
        if self.service_tier is not None and not re.fullmatch(_TIER, self.service_tier):
            raise ValueError("usage.service_tier")
        if len(self.units) > _MOST_UNITS or not all(
            re.fullmatch(_UNIT, name) and _is_count(n) for name, n in self.units
        ):
            raise ValueError("usage.units")


def tier_of(name: Any) -> str | None:
    """A service tier as a server names it, in lower case; None where it names none."""
    if not name or not isinstance(name, str):
        return None
    return tier if re.fullmatch(_TIER, tier := name.lower()) else UNNAMED_TIER


def counted_units(counts: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Counts by name as `Usage.units` holds them: in the order of their names, and none of nothing."""
    return tuple(sorted((name, count) for name, count in counts.items() if count))


def unit_of(name: str) -> str:
    """The name of a unit in the characters that it may have; a name that has none of them is `other`."""
    found = "_".join(re.findall(r"[a-z0-9]+", name.lower()))[:48].strip("_")
    return found or "other"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS


def _is_duration(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 <= value <= MOST_SECONDS


def _cost(text: Any) -> Decimal | None:
    if text is None:
        return None
    if not re.fullmatch(_COST, text) or (cost := Decimal(text)) > MOST_COST:
        raise ValueError("usage.cost_reported")
    return cost
