"""The chapter of `make bench`: climbs each ladder, prints the tables of docs/scale.md, and keeps what was found."""

import contextlib
import os
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from openai_proxy.pricing.price_book import load_price_book

from bench.chapters import Bench
from bench.report import Figure, table
from bench.scale import picture, results, sizes
from bench.scale.scenarios import CLIENT, Run, as_kept, ceilings


async def scale(bench: Bench) -> list[Figure]:
    """What each part bears, and three sizes of user. A trial, of a smaller scale, keeps nothing."""
    part = min(1.0, bench.scale)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        # The largest first: none of the others waits for it in the end.
        of_sizes = [pool.submit(_size, place, part) for place in reversed(range(len(sizes.sizes())))]
        of_ceilings = {each.name: pool.submit(_climb, place, part) for place, each in enumerate(ceilings())}
        found = [each.result() for each in reversed(of_sizes)]
        runs = as_kept({name: each.result() for name, each in of_ceilings.items()})
    with _without_log():
        writes = results.writes(load_price_book())
    table(results.CEILINGS, results.ceiling_rows(runs))
    table(results.SIZES, results.size_rows(found))
    if bench.scale >= 1:
        before = results.kept()["before"]
        results.keep({"writes": writes, "ceilings": runs, "sizes": found, "before": before})
        picture.write(before, [*runs[CLIENT], *found])
        print(f"\nKept in {results.FILE.name}, and drawn: docs/scale.md has to say the same.")
    return []


def _climb(place: int, part: float) -> list[Run]:
    """Climb a ladder in a process of its own: each comes out the same wherever it runs."""
    with _without_log():
        return ceilings()[place].climb(part)


def _size(place: int, part: float) -> dict[str, Any]:
    with _without_log():
        return sizes.run(sizes.sizes()[place], load_price_book(), part)


@contextlib.contextmanager
def _without_log() -> Generator[None]:
    """What the proxy would log of thousands of refused calls is not shown."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
