"""Works out input and output when a server's counts do not show which of them are parts of which. Pure.

Its one rule: the server's total decides. Where it does not, a part belongs to its whole if it is not larger than the
whole.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Report(NamedTuple):
    """What a server says it counted. `total` None: it does not say."""

    prompt: int
    completion: int
    total: int | None
    cached: int
    written: int
    audio: int
    reasoning: int
    is_anthropic: bool
    """Whether cached tokens are only told under names that Anthropic gives to what it does not count in the input."""


def placed(report: Report, *, has_own_names: bool) -> tuple[int, int, int]:
    """Input, output and reasoning, including what the server counted beside its prompt and its completion. No part is
    larger than its whole, and neither are both caches together.

    A part is counted beside its whole if only then the sums match the total, or if it is larger than the whole. The
    rest of the total that no part explains is input if the audio is, and otherwise thoughts, as Gemini counts them.
    """
    prompt, completion, total = report.prompt, report.completion, report.total
    forced = _fewest_beside(report)
    known = (report.cached, report.written, report.audio, report.reasoning)
    if total is None:
        beside = (True, True, forced[2], forced[3]) if has_own_names else forced
    else:
        beside = next(
            (each for each in _choices(report, forced) if prompt + completion + _sum(known, each) == total), forced
        )
    of_input, of_output = _sum(known[:3], beside[:3]), _sum(known[3:], beside[3:])
    unexplained = max(0, (total or 0) - prompt - completion - of_input - of_output)
    input_tokens, output_tokens = prompt + of_input, completion + of_output
    if beside[2] or not (input_tokens or output_tokens):
        return input_tokens + unexplained, output_tokens, report.reasoning
    thoughts = max(report.reasoning, unexplained) if completion else report.reasoning
    return input_tokens, output_tokens + unexplained, thoughts


_Beside = tuple[bool, bool, bool, bool]
"""Whether cached, written, audio and reasoning tokens are counted beside the prompt or the completion."""

_INSIDE: _Beside = (False, False, False, False)
_CACHES: tuple[_Beside, ...] = ((True, True, False, False), (True, True, False, True))
_THOUGHTS_OR_AUDIO: tuple[_Beside, ...] = (
    (False, False, False, True),
    (False, False, True, False),
    (False, False, True, True),
)
_WAYS = (_INSIDE, *_THOUGHTS_OR_AUDIO, *_CACHES)
_WAYS_OF_ANTHROPIC = (_INSIDE, *_CACHES, *_THOUGHTS_OR_AUDIO)


def _fewest_beside(report: Report) -> _Beside:
    prompt, cached, written = report.prompt, report.cached, report.written
    both = cached <= prompt and written <= prompt and cached + written > prompt
    return (
        both or cached > prompt,
        both or written > prompt,
        report.audio > prompt,
        report.reasoning > report.completion,
    )


def _choices(report: Report, forced: _Beside) -> Iterator[_Beside]:
    """The ways of counting that are possible here, the likeliest first."""
    ways = _WAYS_OF_ANTHROPIC if report.is_anthropic else _WAYS
    return (each for each in ways if all(is_beside or not must for is_beside, must in zip(each, forced, strict=True)))


def _sum(counts: Sequence[int], chosen: Sequence[bool]) -> int:
    return sum(count for count, is_chosen in zip(counts, chosen, strict=True) if is_chosen)
