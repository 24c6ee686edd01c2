"""The figures of `top` as lines, none of which is wider than the terminal. Pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from openai_proxy.throttles.weather import Weather

from console.tables import Columns, shortened, table, width_of
from console.text import count, harmless, usd
from console.top.figures import Figures, Sums

KEYS = "q quit · c client · s server · m model"
"""What the keyboard does."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_LEAST_COLUMN = 10
_GAP = "   "
_MOST_SERVERS = 3


def screen(
    figures: Figures, width: int | None = None, height: int | None = None, *, problem: str = "", blocks: bool = True
) -> list[str]:
    """All that `top` shows, in lines of `width` characters; rows are left out when there are more than `height` lines.

    `problem` says why the figures are old. Without `blocks` nothing but ASCII is drawn.
    """
    head = _head(figures, width, problem, blocks=blocks)
    if not figures.total.requests:
        nothing = f"Nothing ended in the last {_minutes(figures)}."
        why = "An inference is seen some seconds after its end; refused ones are in the metrics only."
        return _drawn([*head, "", *_wrapped([nothing, why], width, " ")], blocks=blocks)
    room = None if height is None else max(1, height - len(head) - 3)  # an empty line, the headings and their rule
    shown = figures.rows if room is None or len(figures.rows) <= room else figures.rows[: max(1, room - 1)]
    rows = _table(figures, shown, width)
    left_out = len(figures.rows) - len(shown)
    more = [_cut(f"and {count(left_out)} more", width)] if left_out else []
    return _drawn([*head, "", *rows, *more], blocks=blocks)


def _head(figures: Figures, width: int | None, problem: str, *, blocks: bool) -> list[str]:
    total, until = figures.total, datetime.fromtimestamp(figures.until, UTC)
    answered = total.requests - total.failed - total.cache_hits
    parts = [
        [f"openai-proxy, last {_minutes(figures)}", f"{until:%H:%M:%S} UTC"],
        [
            f"{figures.a_minute(total.requests):,.1f} requests/min",
            f"{count(answered)} completed, {count(total.failed)} failed, {count(total.cache_hits)} from the cache",
            _throttled(figures),
        ],
        [
            f"TTFT {_seconds(total.first_chunk(50))} s p50, {_seconds(total.first_chunk(95))} s p95",
            f"{figures.a_second(total.output_tokens):,.1f} tokens/s",
            _cost(figures),
        ],
    ]
    lines = [line for each in parts for line in _wrapped(each, width, _GAP)]
    if blocks and total.requests:
        lines.append(_cut(_curve(figures.buckets), width))
    if figures.incomplete:
        lines += _wrapped(["There are more inferences than are read: these figures are too low."], width, " ")
    lines += [
        _cut(harmless(_limits_of(each, figures.until)), width) for each in figures.throttles.servers[:_MOST_SERVERS]
    ]
    notes = [f"throttles: {figures.throttles.problem}"] if figures.throttles.problem else []
    return lines + [_cut(harmless(note), width) for note in [*notes, problem] if note]


def _limits_of(weather: Weather, until: float) -> str:
    """What a server has announced, where it refuses or soon will."""
    name = f"{weather.server} {weather.model}"
    if weather.is_full(until):
        return f"{name}: refuses for {max(1, round(weather.full_until - until))} s"
    resource, left = weather.going or ("requests", None)
    if left is None or left.seconds is None:
        return f"{name}: has room"
    whole = "" if left.limit is None else f" of {count(left.limit)}"
    return f"{name}: {count(left.remaining)}{whole} {resource} left, gone in {round(left.seconds)} s"


def _throttled(figures: Figures) -> str:
    by_source = figures.throttles.by_source
    if figures.throttles.problem:
        return "? throttled"
    reasons = ", ".join(f"{source} {count(number)}" for source, number in sorted(by_source.items()))
    return f"{count(sum(by_source.values()))} throttled" + (f": {reasons}" if reasons else "")


def _cost(figures: Figures) -> str:
    total = figures.total
    unpriced = f", {count(total.unpriced)} unpriced" if total.unpriced else ""
    if total.known_cost is None:
        return f"cost unknown{unpriced}"
    an_hour = total.cost * 3600 / figures.window
    return f"{usd(total.cost)} USD, {_money(an_hour)} an hour{unpriced}"


def _money(amount: Decimal) -> str:
    return f"{amount:,.2f}" if amount >= 1 or not amount else usd(amount)


def _table(figures: Figures, rows: Sequence[tuple[tuple[str, ...], Sums]], width: int | None) -> list[str]:
    """Names, then figures in the order of their worth: what a narrow terminal has no room for is at the end."""
    headings = ["REQ/MIN", "FAILED", "TTFT P50", "P95", "TOKENS/S", "COST USD", "CACHED"]
    known = {"server": figures.throttles.by_server, "client": figures.throttles.by_client}
    throttles = known.get(figures.by[0]) if len(figures.by) == 1 else None
    cells = [[*map(harmless, names), *_cells(figures, sums)] for names, sums in rows]
    if throttles is not None:
        headings.insert(2, "THROTTLED")
        for line, (names, _) in zip(cells, rows, strict=True):
            line.insert(1 + 2, count(throttles.get(names[0], 0)))
    names = [dimension.upper() for dimension in figures.by]
    shown = table(
        Columns([*names, *headings], numbers=len(headings), least=_LEAST_COLUMN), cells, width=width, tell=False
    )
    return [_cut(line, width) for line in shown.split("\n")]


def _cells(figures: Figures, sums: Sums) -> list[str]:
    return [
        f"{figures.a_minute(sums.requests):,.1f}",
        count(sums.failed),
        _seconds(sums.first_chunk(50)),
        _seconds(sums.first_chunk(95)),
        f"{figures.a_second(sums.output_tokens):,.1f}",
        usd(sums.known_cost) + ("+" if sums.unpriced and sums.cost else ""),
        count(sums.cache_hits),
    ]


def _curve(buckets: Sequence[int]) -> str:
    """Requests over time; the highest column is the busiest piece of the window."""
    most = max(buckets)
    return "".join(_BLOCKS[-(-number * (len(_BLOCKS) - 1) // most)] for number in buckets) + f" most {count(most)}"


def _wrapped(parts: Iterable[str], width: int | None, gap: str) -> list[str]:
    """Parts side by side, in as many lines as they take."""
    lines: list[str] = []
    for part in parts:
        if lines and (width is None or width_of(lines[-1] + gap + part) <= width):
            lines[-1] += gap + part
        else:
            lines.append(part)
    return [_cut(line, width) for line in lines]


def _cut(line: str, width: int | None) -> str:
    return line if width is None else shortened(line, width)


def _drawn(lines: list[str], *, blocks: bool) -> list[str]:
    return lines if blocks else [line.replace("…", ".").encode("ascii", "replace").decode() for line in lines]


def _seconds(duration: float | None) -> str:
    return "-" if duration is None else f"{duration:.3f}"


def _minutes(figures: Figures) -> str:
    minutes = figures.window // 60
    return f"{minutes} minutes" if minutes > 1 else "minute"
