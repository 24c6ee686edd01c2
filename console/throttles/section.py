"""The part of a report's page that says who was throttled. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from openai_proxy.throttles.advice import Throttled, limit_text, summed

from console.report.charts import MOST_ROWS
from console.report.page import Section, Table
from console.text import count

_HEADINGS = ("Client and model", "By", "Limit", "Requests")
_SAID = "Who was refused most, by which limit; openai-proxy throttles shows all of them, and what helps."


def throttled_clients(throttled: Iterable[Throttled], names: Mapping[str, str]) -> Iterator[Section]:
    """Who was refused most, where anybody was. `names` are what sources of throttles are called on the page."""
    rows = summed(throttled, ("client", "source", "model"))
    cells = [
        (f"{row.client}, {row.model}", names.get(row.source, row.source), limit_text(row) or "-", count(row.requests))
        for row in rows[:MOST_ROWS]
    ]
    if rows:
        yield Section("Throttled clients", _SAID, None, Table("Throttled clients", _HEADINGS, cells))
