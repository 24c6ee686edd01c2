"""The charts of a report, and how its amounts and days are written.

Every chart is drawn twice, because on a phone the letters of the wide one are too small to read.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from console.costs.summary import attribute, known_cost, summarize, top
from console.period import Period
from console.report.page import Chart
from console.report.plot import Draw, Series, bars_chart, columns_chart, ranges_chart
from console.tables import shortened
from console.text import count

Item = dict[str, Any]

MOST_DAYS_SHOWN = 62
MOST_ROWS = 10
_MOST_SERIES = 7
_PHONE_WIDTH = 3.6
"""Inches. At 72 points each they are what a phone of 320 pixels has for a chart."""
_PHONE_NAME = 19


class Bar(NamedTuple):
    """A bar of a chart, with a text at its end."""

    name: str
    value: float
    text: str


def money(amount: Decimal | None) -> str:
    """An amount, rounded to a cent; below a cent to a millionth, so that a small amount never looks like zero."""
    if amount is None:
        return "unpriced"
    if amount == 0 or abs(amount) >= Decimal("0.01"):
        return f"${amount:,.2f}"
    return "<$0.000001" if 0 < amount < Decimal("0.000001") else f"${amount:.6f}".rstrip("0").ljust(5, "0")


def in_thousands(number: Decimal) -> str:
    """A count in k, M or G."""
    for size, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:,.1f} {suffix}"
    return count(number)


def in_steps(rows: Sequence[Item], days: Sequence[date]) -> tuple[str, list[str], list[Item]]:
    """Days as they are, or as weeks or months when they are many. Returns the name of a step, the labels of all steps,
    and the rows by step.
    """
    if len(days) <= MOST_DAYS_SHOWN:
        kind, step = "day", str
    elif len(days) <= 7 * MOST_DAYS_SHOWN:
        kind, step = "week", _monday
    else:
        kind, step = "month", _month
    labels = list(dict.fromkeys(step(day) for day in days))
    return kind, labels, [{**row, "day": step(date.fromisoformat(row["day"]))} for row in rows]


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
    shows = f"Spend per {kind}, stacked by model"
    return columns(labels, series or [Series("", [0.0] * len(labels))], "USD", shows, title)


def bar_of(rollups: Sequence[Item], by: str, title: str = "") -> Chart:
    """Spend by one dimension as bars."""
    rows = top(summarize(rollups, [by]), by, MOST_ROWS)
    costs = [(row[attribute(by)], known_cost(row)) for row in rows]
    return bars([Bar(name, float(cost or 0), money(cost)) for name, cost in costs], "USD", f"Spend by {by}", title)


def columns(labels: Sequence[str], series: Sequence[Series], unit: str, shows: str, title: str = "") -> Chart:
    """Stacked columns over time. `labels` are days, or steps of them."""
    shown = _short_days(labels)
    briefly = [Series(_brief(each.name), each.values) for each in series]
    on_phone = _for_phone(columns_chart(shown, briefly, unit, narrow=True))
    return Chart(columns_chart(shown, series, unit, title), shows, on_phone)


def bars(drawn: Sequence[Bar], unit: str, shows: str, title: str = "") -> Chart:
    """Bars, the first one on top."""
    series = [Series("", [bar.value for bar in drawn])]
    names, texts = [bar.name for bar in drawn], [bar.text for bar in drawn]
    on_phone = _for_phone(bars_chart([_brief(name) for name in names], series, unit, texts), room=1.2)
    return Chart(bars_chart(names, series, unit, texts, title), shows, on_phone)


def ranges(names: Sequence[str], series: Sequence[Series], unit: str, shows: str) -> Chart:
    """Points on a line for each name."""
    brief = [_brief(name) for name in names]
    return Chart(ranges_chart(names, series, unit), shows, _for_phone(ranges_chart(brief, series, unit)))


def _for_phone(draw: Draw, room: float = 1.0) -> Draw:
    """The same chart on less width. `room` is for the texts at the ends of bars, which then take a larger share."""

    def draw_for_phone(figure: Any) -> None:
        draw(figure)
        figure.set_figwidth(_PHONE_WIDTH)
        for axes in figure.axes:
            axes.set_xlim(right=axes.get_xlim()[1] * room)

    return draw_for_phone


def _brief(name: str) -> str:
    return shortened(name, _PHONE_NAME)


def _monday(day: date) -> str:
    return str(day - timedelta(days=day.weekday()))


def _month(day: date) -> str:
    return f"{day:%Y-%m}"


def _short_days(labels: Sequence[str]) -> list[str]:
    """Days without their year when all are of one."""
    return [label[5:] for label in labels] if len({label[:4] for label in labels}) == 1 else list(labels)
