"""What `make bench` is told.

Only the standard library is loaded, so that a wrong name is refused before anything is installed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

CHAPTERS = (
    "start",
    "memory",
    "sizes",
    "single",
    "parallel",
    "workers",
    "metering",
    "process",
    "tokens",
    "cache",
    "long",
    "ledger",
    "stack",
    "scale",
    "once",
    "limits",
)


def _chapters(names: str) -> list[str]:
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in CHAPTERS]:
        raise argparse.ArgumentTypeError(f"there is no chapter {unknown[0]!r}: it is one of {', '.join(CHAPTERS)}")
    return [name for name in CHAPTERS if name in wanted]


def _scale(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no fraction: 0.2 takes a fifth of the repetitions")
    return value


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """`only`, a list of chapters in their order; `scale`, above 0; `build`, a folder that is there, or None."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="every figure of docs/benchmarks.md, measured in one run"
    )
    parser.add_argument("--scale", type=_scale, default=1.0, help="a fraction of the repetitions, for a trial")
    parser.add_argument(
        "--only", type=_chapters, default=list(CHAPTERS), metavar="NAME,…", help=f"of {', '.join(CHAPTERS)}"
    )
    parser.add_argument("--build", type=Path, help="another build to measure (.local/bench/build)")
    found = parser.parse_args(words)
    if found.build and not found.build.is_dir():
        parser.error(f"argument --build: {found.build} is no folder")
    return found


if __name__ == "__main__":
    arguments()
