"""`costs report`: a page about a period that can be sent on. It is one file and loads nothing from anywhere.

Beside every chart stands a table with the same figures, for those who cannot see it and for checking.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from openai_proxy.ledger.latencies import percentile_of
from openai_proxy.throttles.advice import Throttled

from console.costs.summary import attribute, known_cost, summarize, top, total_of
from console.period import Period
from console.report.charts import (
    MOST_ROWS,
    Bar,
    bar_of,
    bars,
    columns,
    days_chart,
    in_steps,
    in_thousands,
    money,
    ranges,
)
from console.report.figures import PERCENTILES, RollupFigures, Throttles
from console.report.page import Page, Section, Table, Tile
from console.report.plot import Series
from console.text import count
from console.throttles.section import throttled_clients

Item = dict[str, Any]

TOKENS = (
    "Input, fresh",
    "Input, from a cache",
    "Input, written to a cache",
    "Output",
    "Output, reasoning",
)
THROTTLED_BY: Mapping[str, str] = {
    "key_rpm": "Requests a minute",
    "key_tpm": "Tokens a minute",
    "key_parallel": "Parallel requests",
    "key_budget": "Budget",
    "key_budget_reserved": "Budget, reserved",
    "team_rpm": "Requests a minute, of a team",
    "team_tpm": "Tokens a minute, of a team",
    "team_parallel": "Parallel requests, of a team",
    "team_budget": "Budget of a team",
    "team_budget_reserved": "Budget of a team, reserved",
    "upstream": "The server",
}
_MOST_NAMES = 3


@dataclass(frozen=True, slots=True)
class Report:
    """What a page is made of."""

    period: Period
    made_at: datetime
    ledger: str
    rollups: Sequence[Item]
    figures: RollupFigures
    throttles: Throttles
    throttled: Sequence[Throttled] = ()
    """The rollups of who was throttled."""


def page_of(report: Report) -> Page:
    """The page."""
    total = total_of(report.rollups)
    sections = [
        _days(report),
        _by(report, "client", "Spend by client"),
        _by(report, "model", "Spend by model"),
        _latency(report),
        _tokens(total),
        _savings(report),
        _throttles(report),
        *throttled_clients(report.throttled, THROTTLED_BY),
    ]
    return Page(
        title=f"Inference costs {report.period.text}",
        subtitle="What the requests to language models cost, in US dollars.",
        tiles=list(_tiles(report, total)),
        notes=list(_notes(report, total)),
        sections=sections,
        footer=f"Made {report.made_at:%Y-%m-%d %H:%M} UTC from the ledger “{report.ledger}”.",
    )


def _tiles(report: Report, total: Item) -> Iterator[Tile]:
    requests, savings, throttles = total["requests"], report.figures.savings, report.throttles
    firsts = sum((each.first_chunks for each in report.figures.latencies.values()), Counter[int]())
    tokens_in, tokens_out = total["input_tokens"], total["output_tokens"]
    saved = savings.hits_saved + savings.cached_saved
    unpriced = savings.hits_unpriced + savings.cached_unpriced
    throttled = sum(sum(sources.values()) for sources in throttles.days.values())
    yield Tile("Spend", money(known_cost(total)) if requests else "-", _average(total, report.period))
    yield Tile("Saved by caches", _saved(saved, unpriced), _percent_saved(saved, total["cost"]))
    yield Tile("Requests", count(requests), f"{_percent(total['failed'], requests)} failed")
    yield Tile("Tokens", in_thousands(tokens_in + tokens_out), f"{in_thousands(tokens_out)} of them output")
    median, p90 = (_seconds(percentile_of(firsts, percent)) for percent in (50, 90))
    yield Tile("Time to first chunk", median, f"median; p90 {p90}" if firsts else "")
    yield Tile(
        "Throttled", "-" if throttles.problem else count(throttled), "not known" if throttles.problem else "requests"
    )


def _notes(report: Report, total: Item) -> Iterator[str]:
    today = report.made_at.astimezone(UTC).date()
    if report.period.first <= today <= report.period.last:
        yield f"{today} was not over when this page was made."
    if total["unpriced"]:
        found = [row for row in summarize(report.rollups, ["server", "model"]) if row["unpriced"]]
        found.sort(key=lambda row: -row["unpriced"])
        names = [f"{row['model']} on {row['server']} ({count(row['unpriced'])})" for row in found[:_MOST_NAMES]]
        more = f" and {len(found) - _MOST_NAMES:,} more" if len(found) > _MOST_NAMES else ""
        yield f"{_requests(total['unpriced'])} without a price, in no amount here: {', '.join(names)}{more}."
    if total["usage_estimated"]:
        yield f"{_requests(total['usage_estimated'])} with an estimated usage, and so an estimated cost."
    if total["usage_missing"]:
        yield f"{_requests(total['usage_missing'])} of which the server did not say what they used."
    if total["usage_invalid"]:
        yield f"{_requests(total['usage_invalid'])} of which the server said that they used what cannot be."


def _days(report: Report) -> Section:
    kind, labels, rows = in_steps(report.rollups, report.period.days)
    sums = {row["day"]: row for row in summarize(rows, ["day"])}
    found = [(label, sums.get(label, total_of([]))) for label in labels]
    chart = days_chart(report.rollups, report.period) if report.rollups else None
    return Section(f"Spend per {kind}", "", chart, _spend(f"Spend per {kind}", kind.capitalize(), found))


def _by(report: Report, by: str, title: str) -> Section:
    rows = top(summarize(report.rollups, [by]), by, MOST_ROWS)
    table = _spend(title, by.capitalize(), [(row[attribute(by)], row) for row in rows])
    return Section(title, "", bar_of(report.rollups, by) if rows else None, table)


def _spend(caption: str, heading: str, found: Sequence[tuple[str, Item]]) -> Table:
    """A table of what was spent. It has a column of requests without a price only when there are any."""
    unpriced = any(row["unpriced"] for _, row in found)
    lines = [
        [name, money(known_cost(row)) if row["requests"] else "-", count(row["requests"])]
        + [count(row["unpriced"])] * unpriced
        for name, row in found
    ]
    return Table(caption, (heading, "Spend", "Requests", *["Without a price"] * unpriced), lines)


def _latency(report: Report) -> Section:
    said = (
        "Completed requests, answers from the response cache left out. p90: nine of ten requests are no slower. The "
        "ledger counts times in steps, so a figure may be 12 % too high or too low."
    )
    found = sorted(report.figures.latencies.items(), key=lambda pair: (-pair[1].requests, pair[0]))
    shown = [(f"{model} on {server}", each) for (server, model), each in found][:MOST_ROWS]
    if len(found) > MOST_ROWS:
        said += f" The {MOST_ROWS} models with the most requests, of {len(found):,}."
    if report.figures.untimed:
        said += (
            f" Not in it: {_requests(report.figures.untimed)} from before the ledger counted times; "
            "openai-proxy costs query --named latency-percentiles has them."
        )
    headings = ["Model", "Requests", *(f"{what} p{p}" for what in ("First chunk", "Whole") for p in PERCENTILES)]
    lines = [
        [name, count(each.requests), *_percentiles(each.first_chunks), *_percentiles(each.durations)]
        for name, each in shown
    ]
    with_first = [(name, each.first_chunks) for name, each in shown if each.first_chunks]
    series = [Series(f"p{p}", [percentile_of(steps, p) or 0.0 for _, steps in with_first]) for p in PERCENTILES]
    chart = None
    if with_first:
        shows = "Time to first chunk by model: median, 90th and 99th percentile"
        chart = ranges([name for name, _ in with_first], series, "seconds to the first chunk", shows)
    table = Table("Time to the first chunk and for the whole answer", headings, lines)
    return Section("Latency", said, chart, table, wide=True)


def _tokens(total: Item) -> Section:
    fresh = total["input_tokens"] - total["cache_read_input_tokens"] - total["cache_creation_input_tokens"]
    amounts = [
        *(fresh, total["cache_read_input_tokens"], total["cache_creation_input_tokens"]),
        *(total["output_tokens"] - total["reasoning_output_tokens"], total["reasoning_output_tokens"]),
    ]
    everything = sum(amounts, Decimal(0))
    lines = [[name, count(amount), _percent(amount, everything)] for name, amount in zip(TOKENS, amounts, strict=True)]
    audio = total["input_audio_tokens"] + total["output_audio_tokens"]
    said = "The caches are those of the servers." + (f" {count(audio)} of the tokens are audio." if audio else "")
    chart = None
    if everything:
        named = zip(TOKENS, amounts, strict=True)
        drawn = [Bar(name, float(max(amount, 0)), in_thousands(amount)) for name, amount in named]
        chart = bars(drawn, "tokens", "Tokens by class")
    return Section("Tokens by class", said, chart, Table("Tokens by class", ("Class", "Tokens", "Share"), lines))


def _savings(report: Report) -> Section:
    savings = report.figures.savings
    own, others = "Response cache", "Servers' prompt caches"
    hits_saved = _saved(savings.hits_saved, savings.hits_unpriced)
    cached_saved = _saved(savings.cached_saved, savings.cached_unpriced)
    lines = [
        [own, hits_saved, count(savings.hits), "-"],
        [others, cached_saved, count(savings.cached_requests), count(savings.cached_tokens)],
    ]
    said = (
        "What the same requests would have cost more without caches, at the prices that they paid. What it cost to "
        "write to the servers' prompt caches is taken off."
    )
    unpriced = savings.hits_unpriced + savings.cached_unpriced
    if unpriced:
        said += f" {_requests(unpriced)} from caches without a price, and not in the amounts."
    saved = ((own, savings.hits_saved, hits_saved), (others, savings.cached_saved, cached_saved))
    chart = None
    if savings.hits_saved or savings.cached_saved:
        drawn = [Bar(name, float(max(amount, Decimal(0))), text) for name, amount, text in saved]
        chart = bars(drawn, "USD", "Savings by cache")
    table = Table("Savings by caches", ("Cache", "Saved", "Requests", "Tokens"), lines)
    return Section("Savings by caches", said, chart, table)


def _throttles(report: Report) -> Section:
    throttles = report.throttles
    said = (
        "Requests refused because of a limit of a client key, or of the server's own. They cost nothing and are not in "
        "the ledger; these are CloudWatch's figures, of all clients and stacks of the account and Region."
    )
    rows = [{"day": str(day), "sources": sources} for day, sources in throttles.days.items()]
    kind, labels, rows = in_steps(rows, report.period.days)
    seen = {source for sums in throttles.days.values() for source in sums}
    sources = [*(each for each in THROTTLED_BY if each in seen), *sorted(seen - set(THROTTLED_BY))]
    names = [THROTTLED_BY.get(source, source) for source in sources]
    sums: dict[tuple[str, str], int] = {}
    for row in rows:
        for source, number in row["sources"].items():
            sums[row["day"], source] = sums.get((row["day"], source), 0) + number
    busy = [label for label in labels if any((label, source) in sums for source in sources)]
    lines = [[label, *(count(sums.get((label, source), 0)) for source in sources)] for label in busy]
    chart = None
    if lines:
        series = [
            Series(name, [float(sums.get((label, source), 0)) for label in labels])
            for source, name in zip(sources, names, strict=True)
        ]
        chart = columns(labels, series, "requests", f"Throttled requests per {kind}")
    table = Table("Throttled requests", (kind.capitalize(), *names), lines)
    return Section("Throttled requests", said, chart, table, missing=throttles.problem)


def _requests(number: Decimal | int) -> str:
    return "1 request" if number == 1 else f"{count(number)} requests"


def _average(total: Item, period: Period) -> str:
    days, cost = len(period.days), known_cost(total)
    return f"{money(cost / days)} a day" if days > 1 and cost else ""


def _saved(amount: Decimal, unpriced: int) -> str:
    return money(None if unpriced and not amount else amount)


def _percent_saved(saved: Decimal, spent: Decimal) -> str:
    return f"{_percent(saved, saved + spent)} less than without" if saved > 0 else ""


def _percentiles(steps: Mapping[int, int]) -> list[str]:
    return [_seconds(percentile_of(steps, percent)) for percent in PERCENTILES]


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if value >= 0.1 else f"{1000 * value:.0f} ms"


def _percent(part: Decimal, whole: Decimal) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
