"""`throttles`: who was throttled, by which limit, and what helps."""

import argparse
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from openai_proxy.throttles.advice import Throttled, command, limit_text, remedy, summed

from console.known import check_filters
from console.output import say_nothing_found, show, terminal_width
from console.stack import add_table_options, chosen_table
from console.tables import Columns, table
from console.text import count, harmless, to_json
from console.throttles.reading import Stretch, length, throttles_in

DIMENSIONS = ("client", "source", "server", "model", "team")
_DEFAULT = ("client", "source", "model")
_MOST_REMEDIES = 3


def add_throttles(throttles: argparse.ArgumentParser) -> None:
    """Give `throttles` its options."""
    throttles.description = "Who was throttled, by which limit, and what helps. Hours and days are of UTC."
    throttles.add_argument(
        "--last",
        type=length,
        default="1h",
        metavar="LENGTH",
        help="such as 1h, 24h, 7d or 4w: whole hours, or days, up to now; default: 1h",
    )
    throttles.add_argument(
        "--by",
        type=_dimensions,
        default=_DEFAULT,
        metavar="DIMENSION",
        help=f"sum up by {', '.join(DIMENSIONS)}; several as in client,source; default: {','.join(_DEFAULT)}",
    )
    throttles.add_argument("--client", metavar="NAME", help="only of this client")
    add_table_options(throttles, "CostsTable")
    throttles.set_defaults(run=_throttles)


def _dimensions(text: str) -> tuple[str, ...]:
    if strange := [name for name in text.split(",") if name not in DIMENSIONS]:
        raise argparse.ArgumentTypeError(f"'{strange[0]}' is none of {', '.join(DIMENSIONS)}")
    return tuple(dict.fromkeys(text.split(",")))


def _throttles(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    stretch = Stretch.of(options.last, datetime.now(UTC))
    found = throttles_in(chosen_table("CostsTable", options, environ), stretch)
    rows = summed((row for row in found if options.client in (None, row.client)), options.by)
    if not rows:
        check_filters(options, environ)
    if options.json:
        print(to_json([as_document(row, options.by) for row in rows]))
    elif rows:
        show(text_of(rows, options.by, stretch, terminal_width()))
    if not rows:
        of_client = f" of client {harmless(options.client)}" if options.client else ""
        say_nothing_found(f"Nothing{of_client} was throttled {stretch.text}.", options)
    return 0


def as_document(row: Throttled, by: Sequence[str]) -> dict[str, Any]:
    """A row for programs: amounts are text, as in events."""
    return {
        **{name: getattr(row, name) or None for name in by},
        "requests": row.requests,
        "retry_after_average": round(row.retry_after / row.requests, 3),
        "subject": row.subject or None,
        "subject_id": row.subject_id or None,
        "limit": row.limit or None,
        "span": row.span or None,
        "command": command(row) or None,
    }


def text_of(rows: Sequence[Throttled], by: Sequence[str], stretch: Stretch, width: int | None) -> str:
    """A table, and below it what helps the clients that are throttled most."""
    headings = [*(name.upper() for name in by), "LIMIT", "THROTTLED", "WAIT S"]
    cells = [[*(harmless(getattr(row, name)) or "-" for name in by), *_figures(row)] for row in rows]
    total = sum(row.requests for row in rows)
    lines = [
        f"{count(total)} throttled {stretch.text}",
        "",
        table(Columns(headings, 2, ("WAIT S", "LIMIT")), cells, width=width),
    ]
    told = dict.fromkeys(harmless(f"{row.client or row.team or row.server}: {remedy(row)}") for row in _explained(rows))
    return "\n".join([*lines, *(["", *told] if told else [])])


def _explained(rows: Sequence[Throttled]) -> Sequence[Throttled]:
    return [row for row in rows if row.source and (row.subject_id or row.is_of_a_server)][:_MOST_REMEDIES]


def _figures(row: Throttled) -> list[str]:
    return [harmless(limit_text(row)) or "-", count(row.requests), f"{row.retry_after / row.requests:.1f}"]
