"""The `usage` object of any server's answer, as `Usage`. Pure.

Its one rule: every count comes from the server. A value that is no count makes the whole report `invalid`, with the
reason; it is never taken for zero. No count is outside the bounds of `openai_proxy.usage`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from openai_proxy.usage import MOST_SECONDS, MOST_TOKENS, Usage, tier_of

from proxy.json_shapes import array_of, object_of

_NAMES = frozenset({"prompt_tokens", "input_tokens", "total_tokens", "inputTokens"})
_PROMPT = ("prompt_tokens", "input_tokens", "inputTokens")
_COMPLETION = ("completion_tokens", "output_tokens", "outputTokens")
_TOTAL = ("total_tokens", "totalTokens")
# Names beside OpenAI's, as DeepSeek, Databricks, Perplexity, OpenRouter, Mistral, Together and Bedrock write them.
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details", "prompt_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_READ_BESIDE = ("cache_read_input_tokens", "cacheReadInputTokens")
_WRITTEN_BESIDE = ("cache_creation_input_tokens", "cacheWriteInputTokens")
_REASONING = ("reasoning_tokens", "thinking_tokens")
_READ = ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens")
_WRITTEN = ("cache_creation_tokens", "cache_write_tokens", "cache_creation_input_tokens")


def usage_of(usage: Any, tool_usage: Any = None) -> Usage | None:
    """A `usage` object of any OpenAI endpoint as `Usage`; None when it reports nothing: it is no object, or has only
    zeros.

    Chat says prompt_tokens and completion_tokens, Responses, images and audio input_tokens and output_tokens; details
    hold the cached, reasoning, audio and image shares, transcriptions without tokens the seconds of audio
    (https://platform.openai.com/docs/api-reference). The total shows which of these a server counts beside its input
    and output, and not as part of them. `tool_usage` is a field of Responses answers, where images are counted
    separately.
    """
    fields = object_of(usage)
    if not tool_usage and (usual := _usual(fields)):
        return usual
    from proxy.metering.cost import COST_INVALID, cost_of  # noqa: PLC0415  # most chats report as usual

    numbers = _Numbers()
    try:
        cost = cost_of(fields)
    except ValueError:
        cost, numbers.reason = None, COST_INVALID
    if fields.get("type") == "duration":
        found = Usage(source="reported", duration=numbers.seconds(fields.get("seconds")))
    elif _NAMES.isdisjoint(fields):
        found = Usage(source="reported")
    else:
        found = _tokens_of(fields, numbers)
    if tool_usage:
        found = _with_images(found, object_of(tool_usage).get("image_gen"), numbers)
    if max(found.input_tokens, found.output_tokens) > MOST_TOKENS:
        numbers.refuse("too_large")
    if numbers.is_invalid:
        found = Usage(source="invalid")
    elif not (found.input_tokens or found.output_tokens or found.duration is not None or cost):
        return None
    return found._replace(reason=numbers.reason, cost_reported=cost)


_USUAL = frozenset({"prompt_tokens", "completion_tokens", "total_tokens", _INPUT_DETAILS[0], _OUTPUT_DETAILS[0]})
_USUAL_OF_INPUT = frozenset({"cached_tokens", "audio_tokens"})
_USUAL_OF_OUTPUT = frozenset(
    {"reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"}
)


def _usual(fields: dict[str, Any]) -> Usage | None:
    """A faster reader for reports in the form of OpenAI's chats, which most servers use; None for any other report.

    Such a report has only plain counts, its total is their sum, and no part is larger than its whole.
    """
    if not fields.keys() <= _USUAL:
        return None
    of_input, of_output = object_of(fields.get(_INPUT_DETAILS[0])), object_of(fields.get(_OUTPUT_DETAILS[0]))
    if not (of_input.keys() <= _USUAL_OF_INPUT and of_output.keys() <= _USUAL_OF_OUTPUT):
        return None
    if (not of_input and fields.get(_INPUT_DETAILS[0])) or (not of_output and fields.get(_OUTPUT_DETAILS[0])):
        return None  # the other reader makes an invalid report of details that are no object
    prompt, completion = fields.get("prompt_tokens", -1), fields.get("completion_tokens", -1)
    total = fields.get("total_tokens", -1)
    cached, audio = of_input.get("cached_tokens", 0), of_input.get("audio_tokens", 0)
    reasoning, spoken = of_output.get("reasoning_tokens", 0), of_output.get("audio_tokens", 0)
    for count in (prompt, completion, total, cached, audio, reasoning, spoken):
        if type(count) is not int or not 0 <= count <= MOST_TOKENS:
            return None
    if not 0 < total == prompt + completion or max(cached, audio) > prompt or max(reasoning, spoken) > completion:
        return None
    return Usage(prompt, completion, cached, 0, reasoning, "reported", audio, spoken)


_UNITS_IN_USAGE = frozenset({"server_tool_use", "server_side_tool_usage", "server_side_tool_usage_details"}) | {
    *("connectors", "num_search_queries", "num_sources_used"),
}
_UNITS_IN_ANSWER = frozenset({"output", "usage_info", "meta", "container"})


def told_in(fields: Mapping[str, Any], *, is_whole: bool) -> tuple[Usage | None, str | None]:
    """The usage in an answer (`is_whole`) or in one event of a stream, and how the answer was served; None for what it
    does not say.
    """
    # If a stream was not asked for its usage in OpenAI's way, Groq puts it into `x_groq`.
    reported = fields.get("usage") or object_of(fields.get("x_groq")).get("usage")
    if is_whole and not reported:  # Cohere's
        reported = object_of(fields.get("meta")).get("tokens")
    usage, images = object_of(reported), fields.get("tool_usage")
    if usage.get("iterations") or usage.get("connector_tokens"):
        from proxy.metering.units import with_what_is_beside  # noqa: PLC0415  # few answers have such

        reported = usage = with_what_is_beside(usage)
    found = usage_of(reported, images) if reported or images else None
    if is_whole and not reported and isinstance(fields.get("text"), str) and "duration" in fields:
        found = audio_usage(fields["duration"])  # a transcription as `verbose_json`
    messages = (object_of(object_of(each).get("message")) for each in array_of(fields.get("choices")) if is_whole)
    has_units = usage.get("iterations") or any(each.get("executed_tools") for each in messages)
    if has_units or not (_UNITS_IN_ANSWER.isdisjoint(fields) and _UNITS_IN_USAGE.isdisjoint(usage)):
        from proxy.metering.units import units_of  # noqa: PLC0415  # chats have none

        if units := units_of(fields, usage):
            found = (found or Usage(source="reported"))._replace(units=units)
    # OpenAI names the tier beside the usage; Anthropic names tier and speed in the usage.
    tier = "fast" if usage.get("speed") == "fast" else usage.get("service_tier") or fields.get("service_tier")
    return found, tier_of(tier)


def audio_usage(seconds: Any) -> Usage:
    """The usage of an answer that says how long its audio is, and nothing else."""
    numbers = _Numbers()
    duration = numbers.seconds(seconds)
    if numbers.is_invalid:
        return Usage(source="invalid", reason=numbers.reason)
    return Usage(source="reported", duration=duration)


class _Numbers:
    """Reads the numbers of one report, and remembers what was wrong with the first faulty one."""

    def __init__(self) -> None:
        self.is_invalid = False
        self.reason: str | None = None

    def refuse(self, reason: str) -> int:
        """Note that the report says something impossible."""
        if not self.is_invalid:
            self.is_invalid, self.reason = True, reason
        return 0

    def count(self, value: Any) -> int:
        """A count of tokens; None if the report does not have it."""
        if type(value) is int and 0 <= value <= MOST_TOKENS:
            return value
        number = self._number(value, MOST_TOKENS)
        whole = math.ceil(number)
        if whole != number:
            self.reason = self.reason or "rounded"
        return whole

    def seconds(self, value: Any) -> float | None:
        """A duration in seconds; None if the report does not have it."""
        return None if value is None else float(self._number(value, MOST_SECONDS))

    def fields(self, value: Any) -> dict[str, Any]:
        """The fields of an object, which may be missing."""
        if value and not isinstance(value, dict):
            self.refuse("not_an_object")
        return object_of(value)

    def first(self, fields: Mapping[str, Any], names: Sequence[str]) -> int:
        """The first of `names` with a count above zero."""
        for name in names:
            if name in fields and (count := self.count(fields[name])):
                return count
        return 0

    def share(self, value: Any, whole: int) -> int | None:
        """How many of `whole` the server counted separately; None when it says nothing of them."""
        return None if value is None else min(self.count(value), whole)

    def _number(self, value: Any, most: int) -> int | float:
        if isinstance(value, str):
            from proxy.metering.cost import LONGEST_NUMBER  # noqa: PLC0415  # few servers write numbers so

            try:
                value = float(value[:LONGEST_NUMBER])
            except ValueError:
                return self.refuse("not_a_number")
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
            return self.refuse("not_a_number")
        if not 0 <= value <= most:
            return self.refuse("negative" if value < 0 else "too_large")
        return value


def _tokens_of(fields: Mapping[str, Any], numbers: _Numbers) -> Usage:
    from proxy.metering.usage_sums import Report, placed  # noqa: PLC0415  # most chats report as usual

    of_input, of_output = _details(fields, _INPUT_DETAILS, numbers), _details(fields, _OUTPUT_DETAILS, numbers)
    cached = numbers.count(of_input.get("cached_tokens")) or numbers.first(fields, _READ)
    written = numbers.first(of_input, _WRITTEN)
    by_time = _by_time(fields, of_input, numbers)
    beside = numbers.first(fields, _READ_BESIDE), numbers.first(fields, _WRITTEN_BESIDE) or sum(by_time)
    report = Report(
        prompt=numbers.first(fields, _PROMPT),
        completion=numbers.first(fields, _COMPLETION),
        total=numbers.first(fields, _TOTAL) or None,
        cached=cached or beside[0],
        written=written or beside[1] or numbers.first(fields, _WRITTEN),
        audio=numbers.count(of_input.get("audio_tokens")),
        reasoning=numbers.first(of_output, _REASONING),
        is_anthropic=not (cached or written),
    )
    has_own_names = "input_tokens" in fields and report.is_anthropic and not of_input
    input_tokens, output_tokens, reasoning = placed(report, has_own_names=has_own_names)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_input_tokens=report.cached,
        cache_creation_input_tokens=report.written,
        cache_creation_1h_input_tokens=min(by_time[1], report.written),
        reasoning_output_tokens=reasoning,
        source="reported",
        input_audio_tokens=report.audio,
        output_audio_tokens=min(numbers.count(of_output.get("audio_tokens")), output_tokens),
        duration=numbers.seconds(fields.get("prompt_audio_seconds")),
        input_image_tokens=numbers.share(of_input.get("image_tokens"), input_tokens),
        output_image_tokens=numbers.share(of_output.get("image_tokens"), output_tokens),
    )


def _by_time(fields: Mapping[str, Any], of_input: Mapping[str, Any], numbers: _Numbers) -> tuple[int, int]:
    """The tokens that were written to caches for five minutes and for an hour, under Anthropic's names and
    LiteLLM's.
    """
    written = object_of(fields.get("cache_creation") or of_input.get("cache_creation_token_details"))
    minutes, hour = (numbers.count(written.get(f"ephemeral_{time}_input_tokens")) for time in ("5m", "1h"))
    return minutes, hour


def _with_images(usage: Usage, images: Any, numbers: _Numbers) -> Usage:
    """`usage` with what the image tool used, unless the usage itself includes it."""
    fields = numbers.fields(images)
    if usage.output_image_tokens or _NAMES.isdisjoint(fields):
        return usage
    drawn = _tokens_of(fields, numbers)
    if not (drawn.input_tokens or drawn.output_tokens):
        return usage
    output_images = drawn.output_tokens if drawn.output_image_tokens is None else drawn.output_image_tokens
    return usage._replace(
        input_tokens=usage.input_tokens + drawn.input_tokens,
        output_tokens=usage.output_tokens + drawn.output_tokens,
        input_image_tokens=(usage.input_image_tokens or 0) + (drawn.input_image_tokens or 0),
        output_image_tokens=output_images,
    )


def _details(usage: Mapping[str, Any], names: Sequence[str], numbers: _Numbers) -> dict[str, Any]:
    for name in names:
        if found := usage.get(name):
            return numbers.fields(found)
    return {}
