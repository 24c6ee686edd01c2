"""`top`: what the proxy is doing, live: requests, failures, latency, tokens, cost and throttles of the last minutes.

However long and however often somebody looks, what AWS charges for it is bounded: docs/metrics.md says by what.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Protocol, cast

from console.aws import cloudwatch_client
from console.errors import ConsoleError
from console.keys.options import whole
from console.output import can_redraw, has_blocks, show, terminal_width
from console.stack import add_table_options, chosen_table, namespace_of
from console.top.figures import DIMENSIONS, Dimension, Figures, Seen, Throttles, as_document, figures_of
from console.top.reading import RecentInferences, RecentThrottles
from console.top.screen import KEYS, screen

_SLICE = 0.5
"""Seconds after which a terminal of another size is noticed."""


class View(Protocol):
    """Where `top` is drawn: console.top.terminal.Terminal, or a fake of it."""

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Characters of a line, and lines; None is any number."""
        ...

    @property
    def blocks(self) -> bool:
        """Whether it takes the characters that bars are drawn with."""
        ...

    def draw(self, lines: list[str]) -> None:
        """Show this in the place of what was there."""
        ...

    def key(self, seconds: float) -> str:
        """The next key that is pressed within this time, or nothing."""
        ...


INTERVAL = 2
"""Seconds between two looks, unless it is said otherwise."""


class Watch:
    """The figures of the last `window` seconds, at the last look."""

    def __init__(
        self,
        inferences: RecentInferences,
        throttles: RecentThrottles,
        window: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inferences = inferences
        self._throttles = throttles
        self._window = window
        self._clock = clock
        self._seen = Seen((), Throttles(), 0.0)

    def look(self) -> None:
        """Read what is new. Raises botocore's errors; the figures are then still those of the last look."""
        now = self._clock()
        inferences = self._inferences.read(now)
        throttles = self._throttles.read(now, self._inferences.servers)
        self._seen = Seen(inferences, throttles, now, incomplete=self._inferences.is_incomplete(now))

    def figures(self, by: tuple[Dimension, ...]) -> Figures:
        """What the last look saw."""
        return figures_of(self._seen, by, self._window)


def add_top(top: argparse.ArgumentParser) -> None:
    """Give `top` its options."""
    top.description = (
        f"What the proxy is doing, live, from the ledger and CloudWatch. Keys: {KEYS.replace(' · ', ', ')}. "
        "Where the output is no terminal, it is printed again and again."
    )
    top.add_argument(
        "--minutes", type=whole(1, 60), default=5, metavar="N", help="what it shows: the last N minutes; default: 5"
    )
    top.add_argument(
        "--by",
        type=_dimensions,
        default=DIMENSIONS,
        metavar="DIMENSION",
        help=f"one row for each {', '.join(DIMENSIONS)}; several as in client,model; default: all three",
    )
    top.add_argument("--interval", type=whole(1, 3600), metavar="SECONDS", help=f"between looks; default: {INTERVAL}")
    top.add_argument("--once", action="store_true", help="look once, and end")
    add_table_options(top, "CostsTable")
    top.set_defaults(run=_top)


def _dimensions(text: str) -> tuple[Dimension, ...]:
    if strange := [name for name in text.split(",") if name not in DIMENSIONS]:
        raise argparse.ArgumentTypeError(f"'{strange[0]}' is none of {', '.join(DIMENSIONS)}")
    return cast("tuple[Dimension, ...]", tuple(dict.fromkeys(text.split(","))))


def _top(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.once and options.interval is not None:
        raise ConsoleError("--interval is between looks, and --once looks once. Remedy: leave one of them out.")
    window, interval = 60 * options.minutes, int(options.interval or INTERVAL)
    table = chosen_table("CostsTable", options, environ)
    throttles = RecentThrottles(lambda: cloudwatch_client(environ), window, table, namespace_of(environ))
    watch = Watch(RecentInferences(table, window), throttles, window)
    watch.look()
    if options.once:
        _print(watch.figures(options.by), options)
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        if options.json or not (sys.stdin.isatty() and can_redraw(sys.stdout)):
            _print_on(watch, options, interval)
        else:
            from console.top.terminal import terminal  # noqa: PLC0415 - only some systems have its modules

            with terminal() as view:
                run_live(watch, view, options.by, interval)
    return 0


def _print(figures: Figures, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(as_document(figures), indent=2 if options.once else None), flush=True)
    else:
        show("\n".join(screen(figures, terminal_width(), blocks=has_blocks(sys.stdout))))
        sys.stdout.flush()


def _print_on(watch: Watch, options: argparse.Namespace, interval: float) -> None:
    """Print a document in a line, or a screen, for each look. Raises botocore's errors: where nobody watches, a command
    that can read no more has to end.
    """
    while True:
        _print(watch.figures(options.by), options)
        time.sleep(interval)
        watch.look()


def run_live(
    watch: Watch,
    view: View,
    by: tuple[Dimension, ...],
    interval: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Draw what `watch` has seen, and look again every `interval` seconds, until q is pressed."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it takes time to load

    problem = ""
    next_look = monotonic() + interval
    while True:
        view.draw(_with_keys(watch.figures(by), view, problem))
        key = view.key(min(_SLICE, max(0.0, next_look - monotonic())))
        if key == "q":
            return
        by = toggled(by, key)
        if monotonic() >= next_look:
            try:
                watch.look()
                problem = ""
            except (BotoCoreError, ClientError) as error:
                problem = f"not of now: {error}"
            next_look = monotonic() + interval


def toggled(by: tuple[Dimension, ...], key: str) -> tuple[Dimension, ...]:
    """The dimensions after a key: c, s and m switch theirs on and off; the last one stays."""
    chosen: tuple[Dimension, ...] = tuple(each for each in DIMENSIONS if (each in by) != (each[0] == key))
    return chosen or by


def _with_keys(figures: Figures, view: View, problem: str) -> list[str]:
    width, height = view.size
    lines = screen(figures, width, None if height is None else height - 1, problem=problem, blocks=view.blocks)
    lines = lines if height is None else lines[: height - 1]
    keys = KEYS if view.blocks else KEYS.replace("·", "-")
    return [*lines, keys[:width]]
