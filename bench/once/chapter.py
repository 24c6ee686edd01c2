"""The chapter of `make bench`: 200,000 events of one client, and ten consumers that are killed by chance."""

import asyncio

from bench.chapters import Bench
from bench.once.books import books
from bench.once.consumer import client_of, create_table
from bench.once.emulator import emulator
from bench.once.trial import Trial, run
from bench.report import Figure, table

EVENTS = 200_000
_HEADER = (
    *("events", "consumers", "delivered", "batches", "kills", "came again"),
    *("entries", "in shards", "lanes", "wrong"),
)


async def once(bench: Bench) -> list[Figure]:
    """Whether each event counts once."""
    trial = Trial(bench.times(EVENTS, 2_000))
    async with emulator() as endpoint:
        client = client_of(endpoint)
        create_table(client)
        tried = await asyncio.to_thread(run, trial, endpoint)
        found = await asyncio.to_thread(books, client, trial.events)
    row = (trial.events, trial.consumers, tried.deliveries, tried.batches, tried.kills, tried.again)
    table(_HEADER, [[*row, found.entries, found.in_shards, found.lanes, found.faults]])
    what = "one client, consumers killed by chance: entries missing, too many or wrong, and sums that are not theirs"
    return [Figure(what, 0, found.faults, "{:.0f}")]
