"""The chapter of `make bench`: climbs each ladder, prints the tables of docs/scale.md, and keeps what was found."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from openai_proxy.pricing.price_book import load_price_book

from bench.chapters import Bench
from bench.report import Figure, table
from bench.scale import results
from bench.scale.scenarios import as_kept, today


async def scale(bench: Bench) -> list[Figure]:
    """What each part bears. A trial, of a smaller scale, keeps nothing."""
    with _without_log():
        runs = {scenario.name: scenario.climb(min(1.0, bench.scale)) for scenario in today()}
        writes = results.writes(load_price_book())
    ceilings = as_kept(runs)
    table(results.CEILINGS, results.ceiling_rows(ceilings))
    if bench.scale >= 1:
        results.keep({"writes": writes, "ceilings": ceilings})
        print(f"\nKept in {results.FILE.name}: docs/scale.md has to say the same.")
    return []


@contextlib.contextmanager
def _without_log() -> Generator[None]:
    """What the proxy would log of thousands of refused calls is not shown."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
