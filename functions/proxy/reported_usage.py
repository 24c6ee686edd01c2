"""The `usage` object of any server's answer, as `Usage`. Pure.

Its one rule: a count is one that the server gave; where it gave none there is no usage rather than zeros.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from openai_proxy.usage import Usage

from proxy.json_shapes import count_of, object_of

_LONGEST_DURATION = 1e9


def usage_of(usage: Any) -> Usage | None:
    """A `usage` object of any OpenAI endpoint as `Usage`; None when it is not one.

    Chat says prompt_tokens and completion_tokens, Responses, images and audio input_tokens and output_tokens; details
    hold the cached, reasoning, audio and image shares, transcriptions without tokens the seconds of audio
    (https://platform.openai.com/docs/api-reference). What a server counts in its total only belongs to the input where
    it is audio (Mistral's transcriptions), else to the output: Gemini counts thoughts so.
    """
    fields = object_of(usage)
    if fields.get("type") == "duration" and (seconds := _seconds(fields.get("seconds"))) is not None:
        return Usage(duration=seconds, source="reported")
    if _NAMES.isdisjoint(fields):
        return None
    of_input, of_output = _details(fields, _INPUT_DETAILS), _details(fields, _OUTPUT_DETAILS)
    input_tokens = count_of(fields.get("prompt_tokens")) or count_of(fields.get("input_tokens"))
    output_tokens = count_of(fields.get("completion_tokens")) or count_of(fields.get("output_tokens"))
    audio, reasoning = count_of(of_input.get("audio_tokens")), count_of(of_output.get("reasoning_tokens"))
    uncounted = max(0, count_of(fields.get("total_tokens")) - input_tokens - output_tokens)
    if audio > input_tokens or not (input_tokens or output_tokens):
        input_tokens += uncounted
    else:
        output_tokens += uncounted
        reasoning = max(reasoning, uncounted)
    cached = count_of(of_input.get("cached_tokens")) or _first_count(fields, _CACHE_READ)
    written = _first_count(of_input, _CACHE_WRITTEN) or _first_count(fields, _CACHE_WRITTEN)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_input_tokens=min(cached, input_tokens),
        cache_creation_input_tokens=min(written, input_tokens),
        reasoning_output_tokens=min(reasoning, output_tokens),
        source="reported",
        input_audio_tokens=min(audio, input_tokens),
        output_audio_tokens=min(count_of(of_output.get("audio_tokens")), output_tokens),
        duration=_seconds(fields.get("prompt_audio_seconds")),
        input_image_tokens=_share(of_input.get("image_tokens"), input_tokens),
        output_image_tokens=_share(of_output.get("image_tokens"), output_tokens),
    )


_NAMES = frozenset({"prompt_tokens", "input_tokens", "total_tokens"})
# Names beside OpenAI's, each seen in recorded answers: DeepSeek, Databricks, Perplexity, OpenRouter, Mistral.
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details", "prompt_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_CACHE_READ = ("prompt_cache_hit_tokens", "cache_read_input_tokens")
_CACHE_WRITTEN = ("cache_creation_tokens", "cache_write_tokens", "cache_creation_input_tokens")


def _first_count(fields: Mapping[str, Any], names: Sequence[str]) -> int:
    for name in names:
        if name in fields and (count := count_of(fields[name])):
            return count
    return 0


def _share(count: Any, whole: int) -> int | None:
    """How many of `whole` a server says it counted apart; None when it says nothing of them."""
    return min(count_of(count), whole) if isinstance(count, int) else None


def _seconds(value: Any) -> float | None:
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value < _LONGEST_DURATION:
        return None
    return float(value)


def _details(usage: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    for name in names:
        if found := usage.get(name):
            return object_of(found)
    return {}
