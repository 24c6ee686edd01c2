"""Reads what a provider counted, from the CSV files that its console exports.

Its one rule: a column is known by its name or named by the caller; nothing is guessed from what is in it.

Column names are those of OpenAI's usage page (usage and costs, 2025 and 2026) and of the usage and cost pages of
Anthropic's console (2025 and 2026), as seen in exports that others have published. Both give days and times in UTC.
Bills of AWS and Azure are told by their columns too: `billing_export` reads their lines. A file that ends with .gz is
unpacked.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, cast

from console.costs.billing_export import Bill, bill_of, line_of
from console.errors import ConsoleError, file_error

_CORRECT = "Remedy: correct that line."
MEASURES = ("input_tokens", "cached_tokens", "output_tokens", "cost", "requests")
NAMED = ("date", "model", "currency", *MEASURES)
"""What a column can be named as."""

KNOWN: Mapping[str, Sequence[Sequence[str]]] = {
    "date": (("start_time_iso",), ("usage_date_utc",), ("start_time",), ("date",), ("day",)),
    "model": (("model_version",), ("model",), ("line_item",)),
    "currency": (("amount_currency",), ("currency",)),
    "input_tokens": (
        ("input_tokens",),
        (
            "usage_input_tokens_no_cache",
            "usage_input_tokens_cache_write_5m",
            "usage_input_tokens_cache_write_1h",
            "usage_input_tokens_cache_read",
        ),
        ("prompt_tokens",),
    ),
    "cached_tokens": (("input_cached_tokens",), ("usage_input_tokens_cache_read",)),
    "output_tokens": (("output_tokens",), ("usage_output_tokens",), ("completion_tokens",)),
    "cost": (("amount_value",), ("cost_usd",), ("cost",)),
    "requests": (("num_model_requests",), ("requests",)),
}
"""The columns that each thing is the sum of; the first that are all there hold."""

_DISPLAY_NAMES = {"usage_date_utc", "model", "cost_usd"}
"""The columns of a cost export whose models have names for people ("Sonnet 4.5"), which no ledger has."""


_USUAL_TIERS = {"service_tier": ("", "default", "standard", "auto"), "batch": ("", "false", "no")}
"""Columns that tell a service tier, and what they say of usage at standard prices."""


@dataclass(slots=True)
class Export:
    """What a provider counted, for each measure by day and model. Where the model is None, the figure is that of the
    whole day.
    """

    days: set[date] = field(default_factory=set[date])
    figures: dict[str, dict[tuple[date, str | None], Decimal]] = field(
        default_factory=dict[str, dict[tuple[date, str | None], Decimal]]
    )
    tiers: set[date] = field(default_factory=set[date])
    """The days with usage of a service tier that has prices of its own."""

    def by_model(self, measure: str) -> bool:
        """Whether a measure is known model by model."""
        return all(model is not None for _, model in self.figures[measure])

    def has_tier(self, day: str) -> bool:
        """Whether there was usage of a service tier on a day."""
        return date.fromisoformat(day) in self.tiers


def read_exports(paths: Iterable[Path], columns: Mapping[str, str]) -> Export:
    """Several files together. `columns` names columns by what they are; "a+b" is a sum. Raises ConsoleError."""
    export = Export()
    for path in paths:
        _read(path, columns, export)
    return export


def _read(path: Path, columns: Mapping[str, str], export: Export) -> None:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"cannot be read: byte {error.start + 1} is not UTF-8"
        raise ConsoleError(f"{path}: {problem}. Remedy: save it as a CSV file in UTF-8.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise file_error(path, error, "read") from error
    first_line = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        headings = list(reader.fieldnames or ())
        if not columns and (bill := bill_of(headings)):
            _read_bill(path, bill, _rows(path, reader), export)
            return
        found = _columns(path, headings, columns)
        measures = [measure for measure in MEASURES if measure in found]
        for measure in measures:
            export.figures.setdefault(measure, {})
        for where, row in _rows(path, reader):
            _add(row, found, measures, export, where)
    except csv.Error as error:
        raise ConsoleError(f"{path}, line {reader.line_num}: is not CSV ({error}). {_CORRECT}") from error


def _rows(path: Path, reader: "csv.DictReader[str]") -> Iterator[tuple[str, dict[str, str | None]]]:
    """The rows and where each is. Of one with more cells than there are columns it is not known which is which."""
    for row in reader:
        where, cells = f"{path}, line {reader.line_num}", dict[str | None, Any](row)
        if None in cells:
            raise ConsoleError(f"{where}: has more cells than there are columns. {_CORRECT}")
        yield where, cast("dict[str, str | None]", cells)


def _read_bill(path: Path, bill: Bill, rows: Iterable[tuple[str, dict[str, str | None]]], export: Export) -> None:
    """Add the lines about models; figures are those of days, for all models together."""
    lines = 0
    for where, row in rows:
        line = line_of(bill, row)
        if line is None:
            continue
        lines += 1
        day = _day(line.day, where)
        export.days.add(day)
        _in_usd(line.currency, where)
        for measure, value in line.figures.items():
            number = _number(value, measure, where) if isinstance(value, str) else value
            sums = export.figures.setdefault(measure, {})
            sums[day, None] = sums.get((day, None), Decimal(0)) + number
        if line.has_tier:
            export.tiers.add(day)
    if not lines:
        problem = f"has the columns of {bill.name}, and no line about models"
        raise ConsoleError(f"{path}: {problem}. Remedy: export the lines of the service that has the models too.")


def _columns(path: Path, headings: Sequence[str], given: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in NAMED:
        alternatives = KNOWN[name]
        if name in given:
            alternatives = [tuple(given[name].split("+")) if name in MEASURES else (given[name],)]
        fitting = (tuple(each) for each in alternatives if set(each) <= set(headings))
        if columns := next(fitting, None):
            found[name] = columns
    if "model" not in given and set(headings) >= _DISPLAY_NAMES:
        found.pop("model", None)
    if "date" not in found or not any(measure in found for measure in MEASURES):
        raise ConsoleError(
            f"{path}: has no column that is known as a date, or none with figures. "
            f"Its columns: {', '.join(headings)[:300] or 'none'}. "
            "Remedy: name them, as in --column date=Day --column input_tokens=Prompt."
        )
    return found


def _add(
    row: Mapping[str, str | None],
    columns: Mapping[str, tuple[str, ...]],
    measures: Sequence[str],
    export: Export,
    where: str,
) -> None:
    day = _day(row[columns["date"][0]] or "", where)
    export.days.add(day)
    texts = {measure: [(row[column] or "").strip() for column in columns[measure]] for measure in measures}
    if not any(text for each in texts.values() for text in each):
        return  # an export shows a day without usage like this
    _in_usd((row[columns["currency"][0]] or "").strip() if "currency" in columns else "", where)
    if any((row.get(name) or "").strip().lower() not in usual for name, usual in _USUAL_TIERS.items()):
        export.tiers.add(day)
    model = _model(row, columns)
    for measure, parts in texts.items():
        value = sum((_number(text, measure, where) for text in parts), Decimal(0))
        sums = export.figures[measure]
        sums[day, model] = sums.get((day, model), Decimal(0)) + value


def _in_usd(currency: str, where: str) -> None:
    if currency and currency.lower() != "usd":
        problem = f"amounts are in {currency}, but the ledger's are in USD"
        raise ConsoleError(f"{where}: {problem}. Remedy: export the amounts in USD.")


def _model(row: Mapping[str, str | None], columns: Mapping[str, tuple[str, ...]]) -> str | None:
    if "model" not in columns:
        return None
    [column] = columns["model"]
    name = (row[column] or "").strip()
    # A line item names a model and what is charged for, such as "gpt-4o-2024-08-06, input".
    return (name.split(", ")[0] if column == "line_item" else name) or None


def _day(text: str, where: str) -> date:
    text = text.strip()
    try:
        if re.fullmatch(r"\d{9,11}(\.0+)?", text, re.ASCII):
            return datetime.fromtimestamp(float(text), UTC).date()
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is None else moment.astimezone(UTC)).date()
    except (ValueError, OverflowError):
        problem = f"'{text[:40]}' is neither a date (ISO 8601) nor Unix seconds"
        raise ConsoleError(f"{where}: {problem}. {_CORRECT}") from None


def _number(text: str, measure: str, where: str) -> Decimal:
    try:
        value = Decimal(text or 0)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or (value < 0 and measure != "cost"):  # credits are negative costs
        raise ConsoleError(f"{where}: '{text[:40]}' is no number of {measure}. {_CORRECT}")
    return value


def merged(figures: Mapping[tuple[date, str | None], Decimal]) -> Iterator[tuple[date, Decimal]]:
    """The figures of a measure by day alone."""
    days: dict[date, Decimal] = {}
    for (day, _), value in figures.items():
        days[day] = days.get(day, Decimal(0)) + value
    yield from sorted(days.items())
