"""`costs report`: a page about a period that one can send on. It is one file, and asks no network for anything.

One rule: beside every chart stands a table with the same figures, for those who cannot see it and for checking.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from console.costs_period import Period
from console.costs_plot import Series, bars_chart, columns_chart, ranges_chart
from console.costs_report_figures import PERCENTILES, EntryFigures, Latencies, Throttles, percentile
from console.costs_report_page import Chart, Section, Table, Tile, page
from console.costs_summary import attribute, known_cost, summarize, top, total_of
from console.text import count

Item = dict[str, Any]

MOST_DAYS_SHOWN = 62
_MOST_ROWS = 10
_MOST_SERIES = 7
TOKENS: Mapping[str, str] = {
    "Input, fresh": "The server read them anew",
    "Input, from the server's cache": "The server had them",
    "Input, written to the server's cache": "Some servers charge more for them",
    "Output": "The answers",
    "Output, reasoning": "Thought, paid for as output",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What a page is made of."""

    period: Period
    made_at: datetime
    ledger: str
    rollups: Sequence[Item]
    entries: EntryFigures
    throttles: Throttles


def report_page(report: Report) -> str:
    """The page as HTML."""
    total = total_of(report.rollups)
    sections = [
        _days(report),
        _by(report, "client", "Spend by client"),
        _by(report, "model", "Spend by model"),
        _latency(report),
        _tokens(total),
        _savings(report, total),
        _throttles(report),
    ]
    return page(
        title=f"Inference costs {report.period.text}",
        subtitle=f"Made {report.made_at:%Y-%m-%d %H:%M} UTC from the ledger “{report.ledger}”. Amounts in US dollars.",
        tiles=list(_tiles(report, total)),
        notes=list(_notes(total)),
        sections=sections,
    )


def money(amount: Decimal | None) -> str:
    """An amount to a cent; less than one to a millionth, and none that is not nothing as nothing."""
    if amount is None:
        return "unpriced"
    if amount == 0 or abs(amount) >= Decimal("0.01"):
        return f"${amount:,.2f}"
    return "<$0.000001" if 0 < amount < Decimal("0.000001") else f"${amount:.6f}".rstrip("0").ljust(5, "0")


def in_steps(rows: Sequence[Item], days: Sequence[date]) -> tuple[str, list[str], list[Item]]:
    """Days as they are, or in weeks or months when they are many: what a step is, their labels, rows with a `step`."""
    if len(days) <= MOST_DAYS_SHOWN:
        kind, step = "day", str
    elif len(days) <= 7 * MOST_DAYS_SHOWN:
        kind, step = "week", _monday
    else:
        kind, step = "month", _month
    labels = list(dict.fromkeys(step(day) for day in days))
    return kind, labels, [{**row, "day": step(date.fromisoformat(row["day"]))} for row in rows]


def _monday(day: date) -> str:
    return str(day - timedelta(days=day.weekday()))


def _month(day: date) -> str:
    return f"{day:%Y-%m}"


def days_chart(rollups: Sequence[Item], period: Period, title: str = "") -> Chart:
    """Spend over time, stacked by the most expensive models."""
    kind, labels, rows = in_steps(rollups, period.days)
    models = top([row for row in summarize(rows, ["model"]) if row["cost"]], "model", _MOST_SERIES)
    named = {row["model"] for row in models[: _MOST_SERIES - 1] or models}
    costs: dict[tuple[str, str], Decimal] = {}
    for row in summarize(rows, ["day", "model"]):
        name = row["model"] if row["model"] in named or len(models) < _MOST_SERIES else models[-1]["model"]
        costs[row["day"], name] = costs.get((row["day"], name), Decimal(0)) + row["cost"]
    series = [Series(row["model"], [float(costs.get((label, row["model"]), 0)) for label in labels]) for row in models]
    draw = columns_chart(_short_days(labels), series or [Series("", [0.0] * len(labels))], "USD", title)
    return Chart(draw, f"Spend per {kind}, stacked by model")


def bar_of(rollups: Sequence[Item], by: str, title: str = "") -> Chart:
    """Spend by one dimension as bars."""
    rows = top(summarize(rollups, [by]), by, _MOST_ROWS)
    costs = [known_cost(row) for row in rows]
    series = [Series("", [float(cost or 0) for cost in costs])]
    draw = bars_chart([row[attribute(by)] for row in rows], series, "USD", [money(cost) for cost in costs], title)
    return Chart(draw, f"Spend by {by}")


def _tiles(report: Report, total: Item) -> Iterator[Tile]:
    requests, tokens = total["requests"], total["input_tokens"]
    firsts = sorted(value for each in report.entries.latencies.values() for value in each.first_chunks)
    yield Tile("Spend", money(known_cost(total)) if requests else "-", _average(total, report.period))
    yield Tile("Requests", count(requests), f"{_percent(total['failed'], requests)} failed")
    yield Tile("Tokens in", _short(tokens), f"{_percent(total['cache_read_input_tokens'], tokens)} from caches")
    yield Tile("Tokens out", _short(total["output_tokens"]), "")
    yield Tile("Time to first chunk", _seconds(percentile(firsts, 50)), "median")
    yield Tile("Without a price", count(total["unpriced"]), "requests, not in the spend")


def _notes(total: Item) -> Iterator[str]:
    if total["unpriced"]:
        yield f"{count(total['unpriced'])} requests have no price. What they cost is not known and not in any amount."
    if total["usage_estimated"]:
        yield f"The usage of {count(total['usage_estimated'])} requests is estimated, and so is their cost."
    if total["usage_missing"]:
        yield f"The server did not say what {count(total['usage_missing'])} requests used."


def _days(report: Report) -> Section:
    kind, labels, rows = in_steps(report.rollups, report.period.days)
    sums = {row["day"]: row for row in summarize(rows, ["day"])}
    lines = [[label, *(_amounts(sums[label]) if label in sums else ("0", "0", "-"))] for label in labels]
    table = Table(f"Spend per {kind}", (kind.capitalize(), "Requests", "Unpriced", "Spend"), lines)
    chart = days_chart(report.rollups, report.period) if report.rollups else None
    return Section(f"Spend per {kind}", "", chart, table)


def _by(report: Report, by: str, title: str) -> Section:
    rows = top(summarize(report.rollups, [by]), by, _MOST_ROWS)
    lines = [[row[attribute(by)], *_amounts(row)] for row in rows]
    table = Table(title, (by.capitalize(), "Requests", "Unpriced", "Spend"), lines)
    return Section(title, "", bar_of(report.rollups, by) if rows else None, table)


def _latency(report: Report) -> Section:
    said = "Completed requests, answers from the response cache left out. p90: nine of ten requests are no slower."
    found = sorted(report.entries.latencies.items(), key=lambda pair: (-len(pair[1].durations), pair[0]))
    names = [f"{model} on {server}" for (server, model), _ in found][:_MOST_ROWS]
    shown = [_sorted(latencies) for _, latencies in found][:_MOST_ROWS]
    if len(found) > _MOST_ROWS:
        said += f" The {_MOST_ROWS} models with the most requests, of {len(found):,}."
    if not shown and report.rollups:
        said = "There are no completed requests among the entries of this period; entries are kept for 400 days."
    headings = ["Model", "Requests", *(f"{what} p{p}" for what in ("First chunk", "Whole") for p in PERCENTILES)]
    lines = [
        [name, count(len(each.durations)), *_percentiles(each.first_chunks), *_percentiles(each.durations)]
        for name, each in zip(names, shown, strict=True)
    ]
    with_first = [(name, each.first_chunks) for name, each in zip(names, shown, strict=True) if each.first_chunks]
    series = [Series(f"p{p}", [percentile(values, p) or 0.0 for _, values in with_first]) for p in PERCENTILES]
    chart = None
    if with_first:
        draw = ranges_chart([name for name, _ in with_first], series, "seconds to the first chunk")
        chart = Chart(draw, "Time to first chunk by model: median, 90th and 99th percentile")
    table = Table("Seconds to the first chunk and for the whole answer", headings, lines)
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
    said = f"Of these, {count(audio)} are audio." if audio else ""
    chart = None
    if everything:
        shown = [_short(amount) for amount in amounts]
        draw = bars_chart(list(TOKENS), [Series("", [float(max(amount, 0)) for amount in amounts])], "tokens", shown)
        chart = Chart(draw, "Tokens by class")
    return Section("Tokens by class", said, chart, Table("Tokens by class", ("Class", "Tokens", "Share"), lines))


def _savings(report: Report, total: Item) -> Section:
    savings = report.entries.savings
    lines = [
        ["Response cache of the proxy", count(savings.hits), "-", _saved(savings.hits_saved, savings.hits_unpriced)],
        [
            "Prompt caches of the servers",
            count(savings.cached_requests),
            count(savings.cached_tokens),
            _saved(savings.cached_saved, savings.cached_unpriced),
        ],
    ]
    said = (
        "What the same requests would have cost more without caches, at the prices of the book of now. What it cost to "
        "write to the servers' prompt caches is taken off."
    )
    unpriced = savings.hits_unpriced + savings.cached_unpriced
    if unpriced:
        said += f" {count(unpriced)} cached requests have no price there and are not in the amounts."
    if total["cache_hits"] > savings.hits:
        said += f" {count(total['cache_hits'] - savings.hits)} hits have no entry any more."
    saved = [savings.hits_saved, savings.cached_saved]
    chart = None
    if any(saved):
        names, texts = [line[0] for line in lines], [line[3] for line in lines]
        draw = bars_chart(names, [Series("", [float(max(each, Decimal(0))) for each in saved])], "USD", texts)
        chart = Chart(draw, "Savings by cache")
    return Section("Savings by caches", said, chart, Table("Savings", ("Cache", "Requests", "Tokens", "Saved"), lines))


def _throttles(report: Report) -> Section:
    throttles = report.throttles
    said = (
        "Requests refused because of a limit of a client key or of a server. They cost nothing and are not in the "
        "ledger; these are CloudWatch's figures, for all stacks of the account and Region."
    )
    if throttles.problem:
        said += f" Missing: {throttles.problem}"
    rows = [{"day": str(day), "sources": sources} for day, sources in throttles.days.items()]
    kind, labels, rows = in_steps(rows, report.period.days)
    sources = sorted({source for sums in throttles.days.values() for source in sums})
    sums: dict[tuple[str, str], int] = {}
    for row in rows:
        for source, number in row["sources"].items():
            sums[row["day"], source] = sums.get((row["day"], source), 0) + number
    busy = [label for label in labels if any((label, source) in sums for source in sources)]
    lines = [[label, *(count(sums.get((label, source), 0)) for source in sources)] for label in busy]
    chart = None
    if lines:
        series = [Series(source, [float(sums.get((label, source), 0)) for label in labels]) for source in sources]
        chart = Chart(columns_chart(_short_days(labels), series, "requests"), f"Throttled requests per {kind}")
    return Section("Throttled requests", said, chart, Table("Throttled requests", (kind.capitalize(), *sources), lines))


def _amounts(row: Item) -> tuple[str, str, str]:
    return count(row["requests"]), count(row["unpriced"]), money(known_cost(row))


def _average(total: Item, period: Period) -> str:
    days, cost = len(period.days), known_cost(total)
    return f"{money(cost / days)} a day" if days > 1 and cost else ""


def _saved(amount: Decimal, unpriced: int) -> str:
    return money(None if unpriced and not amount else amount)


def _sorted(latencies: Latencies) -> Latencies:
    return Latencies(sorted(latencies.durations), sorted(latencies.first_chunks))


def _percentiles(values: Sequence[float]) -> list[str]:
    return [_seconds(percentile(values, percent)) for percent in PERCENTILES]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _percent(part: Decimal, whole: Decimal) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _short(number: Decimal) -> str:
    for size, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:,.1f} {suffix}"
    return count(number)


def _short_days(labels: Sequence[str]) -> list[str]:
    """Days without their year when all are of one."""
    return [label[5:] for label in labels] if len({label[:4] for label in labels}) == 1 else list(labels)
