"""What metering, asking for usage and hiding it cost: a sandbox with them beside one without them.

The difference is smaller than that of two processes of the same program, whose memory happens to lie differently. So
every round is a fresh pair, in which the two take turns with every few requests; the median of all rounds counts.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.measures.load import Plan, load
from bench.processes import Surroundings
from bench.requests import STREAM, Workload
from bench.runtime_api import AwsStandIn
from bench.targets import SandboxTarget, Target, sandboxes

_WITH, _WITHOUT = "with", "without"


@dataclass(frozen=True, slots=True)
class Metering:
    """Milliseconds of CPU for one request with metering and without, and the share of the latter that it adds."""

    workload: Workload
    with_: float
    without: float
    added: float
    lowest: float
    highest: float
    """The quartiles of `added`."""

    def shown(self) -> str:
        """What is added, in per cent."""
        return f"{self.added:+.1%}"

    def shown_quartiles(self) -> str:
        """How far the pairs lie apart."""
        return f"{self.lowest:+.1%} … {self.highest:+.1%}"


async def metering(
    around: Surroundings, aws: AwsStandIn, upstream: Target, rounds: int, plans: Sequence[tuple[Workload, Plan]]
) -> list[Metering]:
    """`rounds` fresh pairs, each of which goes through all `plans`."""
    found: dict[Workload, list[tuple[float, float]]] = {workload: [] for workload, _ in plans}
    for number in range(rounds):
        async with (
            sandboxes(around, _WITH) as with_,
            sandboxes(replace(around, without="metering"), _WITHOUT) as without,
        ):
            await _assert_that_they_differ(with_, without, aws)
            # Whoever goes first is at a disadvantage of its own, so the order changes.
            pair = [with_, without] if number % 2 else [without, with_]
            for workload, plan in plans:
                loads = await load(pair, workload, plan, upstream)
                found[workload].append((loads[_WITH].cpu, loads[_WITHOUT].cpu))
    return [_metering(workload, pairs) for workload, pairs in found.items()]


def _metering(workload: Workload, pairs: Sequence[tuple[float, float]]) -> Metering:
    added = [with_ / without - 1 for with_, without in pairs]
    lowest, median, highest = statistics.quantiles(added, n=4, method="inclusive")
    cpu = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return Metering(workload, cpu[0], cpu[1], median, lowest, highest)


async def _assert_that_they_differ(with_: SandboxTarget, without: SandboxTarget, aws: AwsStandIn) -> None:
    """The one knows the usage of an answer, the other does not: else there is nothing to compare."""
    for target, source in ((with_, "reported"), (without, "none")):
        await target.exchange(STREAM)
        await target.settled()
        usage: dict[str, Any] = aws.last_detail["data"]["usage"]
        if usage["source"] != source:
            raise RuntimeError(f"a sandbox {target.name} metering says of usage: {usage}")
