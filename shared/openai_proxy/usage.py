"""`Usage`: how many tokens of each class one request used. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

UsageSource = Literal["reported", "estimated", "missing", "none"]
"""Where the figures come from: the server reported them; the proxy estimated them; the server reported nothing
although the operation uses tokens (`missing`: the zeros are not a measurement); the operation uses no tokens."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as OpenTelemetry means them: `input_tokens` includes cached ones, `output_tokens` reasoning.

    Both include audio tokens, which have prices of their own.
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

    def to_event(self) -> dict[str, Any]:
        """The `data.usage` object of an event: OpenTelemetry GenAI attribute paths without the `gen_ai.` prefix."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read": {"input_tokens": self.cache_read_input_tokens},
            "cache_creation": {"input_tokens": self.cache_creation_input_tokens},
            "reasoning": {"output_tokens": self.reasoning_output_tokens},
            "audio": {"input_tokens": self.input_audio_tokens, "output_tokens": self.output_audio_tokens},
            "duration": self.duration,
            "source": self.source,
        }

    @classmethod
    def from_event(cls, usage: Mapping[str, Any]) -> Self:
        """The inverse of `to_event`. Raises KeyError or TypeError when `usage` does not follow the schema."""
        audio = usage.get("audio") or {"input_tokens": 0, "output_tokens": 0}  # events of before have neither
        return cls(
            input_tokens=usage["input_tokens"],
            output_tokens=usage["output_tokens"],
            cache_read_input_tokens=usage["cache_read"]["input_tokens"],
            cache_creation_input_tokens=usage["cache_creation"]["input_tokens"],
            reasoning_output_tokens=usage["reasoning"]["output_tokens"],
            source=usage["source"],
            input_audio_tokens=audio["input_tokens"],
            output_audio_tokens=audio["output_tokens"],
            duration=usage.get("duration"),
        )
