"""The chapter of `make bench`: 200,000 events of one client, and ten consumers that are killed by chance."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Generator

from bench.chapters import Bench
from bench.once.books import books
from bench.once.consumer import TABLE, client_of
from bench.once.trial import Trial, run
from bench.processes import ROOT
from bench.report import Figure, table

EVENTS = 200_000
_HEADER = (
    *("events", "consumers", "delivered", "batches", "kills", "came again"),
    *("entries", "in shards", "lanes", "wrong"),
)


async def once(bench: Bench) -> list[Figure]:
    """Whether each event counts once."""
    trial = Trial(bench.times(EVENTS, 2_000))
    with _store() as endpoint:
        tried = await asyncio.to_thread(run, trial, endpoint)
        found = await asyncio.to_thread(books, client_of(endpoint), trial.events)
    row = (trial.events, trial.consumers, tried.deliveries, tried.batches, tried.kills, tried.again)
    table(_HEADER, [[*row, found.entries, found.in_shards, found.lanes, found.faults]])
    what = "one client, consumers killed by chance: entries missing, too many or wrong, and sums that are not theirs"
    return [Figure(what, 0, found.faults, "{:.0f}")]


@contextlib.contextmanager
def _store() -> Generator[str]:
    """The address of a DynamoDB with an empty table of the ledger."""
    command = [sys.executable, "-m", "bench.once.store", TABLE]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if not (address := process.stdout.readline().strip()):
            raise RuntimeError("the store did not start")
        yield address
    finally:
        process.kill()
        process.communicate()
