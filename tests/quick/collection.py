"""Where a worker begins to collect. All collect all tests; where one has been, the others find bytecode."""

from pathlib import Path
from typing import Any

import pytest


def begin_apart(config: pytest.Config) -> None:
    """Have this process, if it is one of several that collect the same folders, begin with another of them than they.

    The order of what is collected is left to whoever sorts it.
    """
    chosen = [Path(config.invocation_params.dir, each) for each in config.args]
    if not hasattr(config, "workerinput") or not all(each.is_dir() for each in chosen):
        return
    this: Any = config
    number, count = int(this.workerinput["workerid"].removeprefix("gw")), this.workerinput["workercount"]
    folders = sorted(_folders(config.rootpath, chosen), key=_size, reverse=True)
    own = folders[number % count :: count]
    config.args[:] = [str(each) for each in (*own, *(each for each in folders if each not in own))]


def _folders(root: Path, chosen: list[Path]) -> list[Path]:
    """The folders, down to suites' folders, that together hold each test of those chosen once."""
    holding = {each.parent.relative_to(root).parts for folder in chosen for each in folder.rglob("test_*.py")}
    found = {root.joinpath(*parts[:3]) for parts in holding}
    return sorted(each for each in found if found.isdisjoint(each.parents))


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*.py"))
