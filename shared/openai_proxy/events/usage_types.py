"""Usage as events have it: the object `data.usage`. Only type checkers load this module."""

from collections.abc import Mapping
from typing import Literal, NotRequired, TypedDict


class InputTokens(TypedDict):
    """Tokens of one class that went in."""

    input_tokens: int


class OutputTokens(TypedDict):
    """Tokens of one class that came out."""

    output_tokens: int


class AudioTokens(InputTokens, OutputTokens):
    """Audio tokens."""


class ImageTokens(TypedDict):
    """Image tokens, where the server told them apart."""

    input_tokens: int | None
    output_tokens: int | None


class CacheCreation(InputTokens):
    """Input tokens that were written to a prompt cache, and those of them that stay there for an hour."""

    ephemeral_1h_input_tokens: NotRequired[int]


class UsageData(TypedDict):
    """What was used; `openai_proxy.usage.Usage` reads and writes it."""

    input_tokens: int
    output_tokens: int
    cache_read: InputTokens
    cache_creation: CacheCreation
    reasoning: OutputTokens
    audio: NotRequired[AudioTokens]
    image: NotRequired[ImageTokens]
    duration: NotRequired[float | None]
    source: Literal["reported", "estimated", "missing", "invalid", "none"]
    reason: NotRequired[str | None]
    cost_reported: NotRequired[str | None]
    service_tier: NotRequired[str | None]
    units: NotRequired[Mapping[str, int]]
