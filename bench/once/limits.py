"""The chapter of `make bench`: 32 processes take of one key at once, until each is refused.

One rule: what all of them were let through with together is the limit. Of tokens it may be less by what is left in
shards and is too little for one request.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, NamedTuple

from bench.chapters import Bench
from bench.once.consumer import client_of
from bench.once.emulator import emulator
from bench.once.taker import TABLE, Taken
from bench.processes import ROOT
from bench.report import Figure, table

PROCESSES = 32
_HEADER = ("limit", "shards", "passed", "of the limit", "of what it lets through", "could not be checked")


class Case(NamedTuple):
    """A limit, in so many shards."""

    what: str
    shards: int
    limits: dict[str, Any]

    @property
    def limit(self) -> Decimal:
        """How much the limit lets through."""
        [found] = [value for name, value in self.limits.items() if name != "id"]
        return Decimal(found)

    def passed(self, taken: Taken) -> Decimal:
        """What counts of what was taken."""
        counted = {"tpm": taken.tokens, "budget_day": taken.cost}
        return Decimal(next((counted[name] for name in self.limits if name in counted), taken.requests))


CASES = (
    Case("requests a minute", 5, {"id": "requests", "rpm": 500}),
    Case("tokens a minute", 7, {"id": "tokens", "tpm": 6000}),
    Case("a budget of the day, USD", 6, {"id": "budget", "budget_day": "0.111"}),
    Case("parallel requests", 6, {"id": "parallel", "parallel": 250}),
)


async def limits(bench: Bench) -> list[Figure]:
    """What 32 processes are let through with, of each kind of limit. The same at any scale."""
    del bench
    async with emulator() as endpoint:
        client_of(endpoint).create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        )
        found = await asyncio.to_thread(_take, endpoint)
    rows: list[list[object]] = []
    figures: list[Figure] = []
    for case, taken in zip(CASES, found, strict=True):
        passed = case.passed(taken)
        rows.append([case.what, case.shards, taken.requests, f"{passed:f}", f"{case.limit:f}", taken.failed])
        over = float(max(Decimal(0), passed - case.limit))
        figures.append(Figure(f"{PROCESSES} processes, {case.what}: let through beyond the limit", 0, over, "{:g}"))
    table(_HEADER, rows)
    return figures


def _take(endpoint: str) -> list[Taken]:
    """What all processes together took of each key."""
    processes = [_start(endpoint) for _ in range(PROCESSES)]
    try:
        with ThreadPoolExecutor(PROCESSES) as pool:
            return [sum_of(pool.map(_ask, processes, [case] * PROCESSES)) for case in CASES]
    finally:
        for each in processes:
            each.kill()
            each.communicate()


def sum_of(every: Iterable[Taken]) -> Taken:
    """All that was taken."""
    total = Taken()
    for each in every:
        total = total.and_(each)
    return total


def _ask(process: subprocess.Popen[str], case: Case) -> Taken:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"shards": case.shards, "limits": case.limits}) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line.endswith("\n"):
        raise RuntimeError("a process that takes has ended")
    return Taken.from_line(line)


def _start(endpoint: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.once.taker", endpoint]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
