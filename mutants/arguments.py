"""What `make mutants` is told.

Only the standard library is loaded, so that a wrong name is refused before anything is installed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """`modules`, paths in the checkout, and what limits the run; ends where a module is not there."""
    parser = argparse.ArgumentParser(
        prog="python -m mutants",
        description="Changes modules in small ways, one at a time, and says which changes no test notices. It ends "
        "with 1 if there is such a change that accepted.toml does not have, and works in a copy of the checkout.",
    )
    parser.add_argument("modules", nargs="+", help="modules or folders, such as console/ or functions/proxy/http")
    parser.add_argument("--sample", type=int, metavar="N", help="take N changes at random, not all")
    parser.add_argument("--seed", type=int, help="of the random choice (another one each time)")
    parser.add_argument(
        "--tests", nargs="+", default=["tests/unit", "tests/integration"], help="folders or files of tests"
    )
    parser.add_argument(
        "--processes",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files of tests that start processes: they try, from the changed file, what the others do not notice",
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of tests for one change, the nearest first (30)")
    parser.add_argument("--anew", action="store_true", help="record anew which tests run which lines")
    found = parser.parse_args(words)
    found.modules = _modules(found.modules)
    return found


def _modules(names: Sequence[str]) -> list[str]:
    paths = [ROOT / name for name in names]
    if absent := [path for path in paths if not path.exists()]:
        sys.exit(f"{absent[0]} is not there: name modules or folders of this checkout.")
    files = {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}
    return sorted(file.resolve().relative_to(ROOT).as_posix() for file in files)


if __name__ == "__main__":
    arguments()
