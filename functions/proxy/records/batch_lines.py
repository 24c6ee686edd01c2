"""What the answers of a batch used, read from its lines while they pass to the client that fetches them. Pure.

    {"custom_id": …, "response": {"status_code": 200, "body": {…}}, "error": null}    OpenAI, Groq, Mistral, Together
    {"custom_id": …, "result": {"type": "succeeded", "message": {…}}}                  Anthropic

(https://platform.openai.com/docs/api-reference/batch/request-output,
https://docs.claude.com/en/api/retrieving-message-batch-results). Its one rule: usage is summed by model, over all lines
or none. Lines that were cut are not counted; they are counted when they are fetched again. `digest` identifies the
answers, in whatever order: a copy of them is not paid again.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from openai_proxy.usage import MOST_COST, MOST_SECONDS, MOST_TOKENS, Usage, counted_units

from proxy.json_shapes import LONGEST_NAME, loads_or_none, object_of, text_of
from proxy.metering.meter import Meter
from proxy.metering.usage import told_in

_LONGEST_LINE = 16 * 1024 * 1024
"""Bytes. A longer one is not read: memory stays bounded."""
_MOST_MODELS = 16
_DIGEST_BYTES = 16
_OUTCOMES = frozenset({"response", "result", "error"})


class BatchLines(Meter):
    """The meter of an answer of lines: after `end` it knows the usage of each model."""

    def __init__(self) -> None:
        super().__init__("", False)
        self.service_tier = "batch"
        self._line = bytearray()
        self._is_too_long = False
        self._holds_batch = True
        self._digests = 0
        self._sums: dict[str | None, Usage] = {}

    def see(self, chunk: bytes) -> bytes:
        """Take note of one chunk of the body, which is what the client gets."""
        self._holds_batch = self._holds_batch and (self.size > 0 or chunk.startswith(b"{"))
        self.chunks += 1
        self.size += len(chunk)
        if self._holds_batch:
            beginning, *others = chunk.split(b"\n")
            self._keep(beginning)
            for part in others:
                self._end_line()
                self._keep(part)
        return chunk

    def end(self, document: Any = None) -> None:
        """The body has ended. Read the last line, which may have no line end."""
        self._end_line()
        if not self._holds_batch:
            self._sums = {}
        self.others = list(self._sums.items())[1:]
        self.digest = (self._digests % 256**_DIGEST_BYTES).to_bytes(_DIGEST_BYTES).hex() if self._sums else None

    @property
    def usage(self) -> Usage:
        """What the first answer's model used; `none` where there is no answer."""
        return next(iter(self._sums.values()), Usage(source="none"))

    @property
    def model(self) -> str | None:
        """The model of the first answer."""
        return next(iter(self._sums), None)

    def _keep(self, part: bytes) -> None:
        self._is_too_long = self._is_too_long or len(self._line) + len(part) > _LONGEST_LINE
        if self._is_too_long:
            self._line.clear()
        else:
            self._line += part

    def _end_line(self) -> None:
        line, is_too_long = self._line.strip(), self._is_too_long
        self._line, self._is_too_long = bytearray(), False
        if is_too_long:
            self._add(None, Usage(source="invalid", reason="too_large"))
        elif line and self._holds_batch:
            self._read_line(line)

    def _read_line(self, line: bytearray) -> None:
        fields = object_of(loads_or_none(line))
        self._holds_batch = "custom_id" in fields and not _OUTCOMES.isdisjoint(fields)
        if answer := _answer_in(fields):
            self._digests += int.from_bytes(blake2b(line, digest_size=_DIGEST_BYTES).digest())
            used, _ = told_in(answer, is_whole=True)
            self._add(text_of(answer.get("model"), LONGEST_NAME), used or Usage(source="missing"))

    def _add(self, model: str | None, used: Usage) -> None:
        if model not in self._sums and len(self._sums) >= _MOST_MODELS:
            model, used = next(iter(self._sums)), Usage(source="invalid", reason="too_many_models")
        before = self._sums.get(model)
        self._sums[model] = (added(before, used) if before else used)._replace(service_tier=self.service_tier)


def _answer_in(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in a line; empty if that request failed."""
    response, result = object_of(fields.get("response")), object_of(fields.get("result"))
    if isinstance(status := response.get("status_code"), int) and status >= 400:
        return {}
    return object_of(response.get("body")) or object_of(result.get("message"))


def added(one: Usage, other: Usage) -> Usage:
    """The sum of two usages. A figure that is unknown in one is unknown in the sum."""
    for unknown in (one, other):
        if unknown.source != "reported":
            return unknown
    counts = {
        name: _sum(getattr(one, name), getattr(other, name)) for name in Usage._fields if name.endswith("_tokens")
    }
    units = dict(one.units)
    for name, count in other.units:
        units[name] = units.get(name, 0) + count
    found = one._replace(
        **counts,
        duration=_sum(one.duration, other.duration),
        cost_reported=_sum(one.cost_reported, other.cost_reported),
        units=counted_units(units),
        reason=one.reason or other.reason,
    )
    is_bounded = max(found.input_tokens, found.output_tokens) <= MOST_TOKENS and (found.duration or 0) <= MOST_SECONDS
    is_bounded = is_bounded and (found.cost_reported or 0) <= MOST_COST
    return found if is_bounded else Usage(source="invalid", reason="too_large")


def _sum(one: Any, other: Any) -> Any:
    """The sum of two figures; None stands for an unknown one."""
    return None if one is None or other is None else one + other
