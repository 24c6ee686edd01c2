"""The chapter of `make bench`: climbs each ladder, prints the tables of docs/scale.md, and keeps what was found."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from openai_proxy.pricing.price_book import load_price_book

from bench.chapters import Bench
from bench.report import Figure, table
from bench.scale import picture, results, sizes
from bench.scale.scenarios import CLIENT, as_kept, ceilings


async def scale(bench: Bench) -> list[Figure]:
    """What each part bears, and three sizes of user. A trial, of a smaller scale, keeps nothing."""
    part = min(1.0, bench.scale)
    with _without_log():
        prices = load_price_book()
        runs = as_kept({scenario.name: scenario.climb(part) for scenario in ceilings()})
        found = [sizes.run(size, prices, part) for size in sizes.sizes()]
        writes = results.writes(prices)
    table(results.CEILINGS, results.ceiling_rows(runs))
    table(results.SIZES, results.size_rows(found))
    if bench.scale >= 1:
        before = results.kept()["before"]
        results.keep({"writes": writes, "ceilings": runs, "sizes": found, "before": before})
        picture.write(before, [*runs[CLIENT], *found])
        print(f"\nKept in {results.FILE.name}, and drawn: docs/scale.md has to say the same.")
    return []


@contextlib.contextmanager
def _without_log() -> Generator[None]:
    """What the proxy would log of thousands of refused calls is not shown."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
