"""How long answers took, as counts that add up, so that percentiles can be read from rollups. Pure.

One rule: a rollup stays small. A time falls into one of few steps, each 26 % longer than the one before (a third of an
octave), and a rollup in which every step is counted still is one KB. In a rollup each step is an attribute:

    t<n>   completed requests whose first chunk came in the time of step n, answers of the response cache left out
    d<n>   the same requests, by the time of the whole answer

Step 0 holds what took up to 1/32 s, the last one all that took longer than the one before.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

FIRST_CHUNK, WHOLE = "t", "d"
MOST_STEPS: Mapping[str, int] = {FIRST_CHUNK: 33, WHOLE: 45}
"""The last step: 64 s to the first chunk, and 1,024 s for a whole answer, which is longer than Lambda lets one take."""

_TIMES = ((FIRST_CHUNK, "time_to_first_chunk"), (WHOLE, "duration"))
_FIRST_SECONDS = 1 / 32
_OF_AN_OCTAVE = 3
_STEP = re.compile(r"([td])(\d{1,2})")


def latency_share(entry: Mapping[str, Any]) -> dict[str, int | Decimal]:
    """What an entry adds to its rollups of the time that it took: sums over all requests, and a step of each time."""
    share: dict[str, int | Decimal] = {
        "duration": entry["duration"],
        "first_chunks": int("time_to_first_chunk" in entry),
        "time_to_first_chunk": entry.get("time_to_first_chunk", Decimal(0)),
    }
    if entry["outcome"] == "completed" and entry.get("cache_status") != "HIT":
        for kind, name in _TIMES:
            if name in entry:
                share[f"{kind}{step_of(kind, entry[name])}"] = 1
    return share


def step_of(kind: str, seconds: Decimal | float) -> int:
    """The step of a time to the FIRST_CHUNK, or of a WHOLE answer."""
    number = float(seconds)
    if number <= _FIRST_SECONDS:
        return 0
    return min(math.ceil(_OF_AN_OCTAVE * math.log2(number / _FIRST_SECONDS)), MOST_STEPS[kind])


def steps_in(rollup: Mapping[str, Any], kind: str) -> Counter[int]:
    """How many requests each step of a rollup counts. Rollups of before there were steps have none."""
    named = ((_STEP.fullmatch(name), value) for name, value in rollup.items())
    return Counter({int(step[2]): int(value) for step, value in named if step and step[1] == kind and value})


def percentile_of(steps: Mapping[int, int], percent: int) -> float | None:
    """The time in seconds that `percent` % of all do not exceed, 12 % too high or too low at most; None without any.

    It is the middle of the step that has it; of the first step the end.
    """
    rank = max(1, math.ceil(sum(steps.values()) * percent / 100))
    for step in sorted(steps):
        rank -= steps[step]
        if rank <= 0:
            return _FIRST_SECONDS * 2.0 ** ((step - 0.5) / _OF_AN_OCTAVE) if step else _FIRST_SECONDS
    return None
