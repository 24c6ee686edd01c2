"""`costs`: what a day cost, from the rollups, and what single inferences cost, from the ledger."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from boto3.dynamodb.types import TypeDeserializer

from console.stack import Table
from console.text import columns, count, seconds, usd

By = Literal["client", "server", "model"]
Item = dict[str, Any]

_NAMES: Mapping[By, str] = {"client": "client_id", "server": "server", "model": "model"}
_SUMS = (
    "requests",
    "failed",
    "cache_hits",
    "unpriced",
    "usage_missing",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "reasoning_output_tokens",
    "cost",
    "duration",
    "first_chunks",
    "time_to_first_chunk",
)


def read_rollups(table: Table, day: date) -> list[Item]:
    """The rollups of a day (UTC): one for each client, server and model."""
    return _query(table, f"day#{day}")


def read_entries(table: Table, client_id: str, day: date, limit: int) -> list[Item]:
    """The latest ledger entries of a client on a day (UTC), newest first."""
    return _query(table, f"client#{client_id}#{day}", limit)


def summarize(rollups: Iterable[Item], by: Sequence[By]) -> list[Item]:
    """The rollups summed up for each value of `by`, the most expensive first."""
    sums: dict[tuple[str, ...], Item] = {}
    for rollup in rollups:
        key = tuple(rollup[_NAMES[name]] for name in by)
        total = sums.setdefault(key, {name: Decimal(0) for name in _SUMS})
        for name in _SUMS:
            total[name] += rollup.get(name, 0)
    ordered = sorted(sums.items(), key=lambda pair: (-pair[1]["cost"], -pair[1]["requests"], pair[0]))
    return [dict(zip((_NAMES[name] for name in by), key, strict=True)) | total for key, total in ordered]


def summary_table(rows: Sequence[Item], by: Sequence[By]) -> str:
    """Summed-up rollups as text, with their total and what it leaves out."""
    [total] = summarize(({**row, "client_id": ""} for row in rows), ["client"])
    lines = [[*(str(row[_NAMES[name]]) for name in by), *_figures(row)] for row in rows]
    lines.append(["TOTAL", *[""] * (len(by) - 1), *_figures(total)])
    headings = [
        *(name.upper() for name in by),
        *("REQUESTS", "FAILED", "INPUT", "CACHED", "OUTPUT", "TTFT s", "DURATION s", "UNPRICED", "COST USD"),
    ]
    text = columns(headings, lines, numbers=9, total=True)
    if total["unpriced"]:
        text += f"\n\nRequests without a price, whose cost is not in the total: {count(total['unpriced'])}."
        if total["usage_missing"]:
            text += f"\nRequests whose usage the server did not report: {count(total['usage_missing'])}."
        text += "\nEach entry says why (`costs entries --json`); prices are in prices.yaml."
    return text


def _figures(row: Item) -> list[str]:
    return [
        count(row["requests"]),
        count(row["failed"]),
        count(row["input_tokens"]),
        count(row["cache_read_input_tokens"]),
        count(row["output_tokens"]),
        seconds(row["time_to_first_chunk"] / row["first_chunks"] if row["first_chunks"] else None),
        seconds(row["duration"] / row["requests"]),
        count(row["unpriced"]),
        usd(None if row["unpriced"] == row["requests"] else row["cost"]),
    ]


def entries_table(entries: Iterable[Item]) -> str:
    """Ledger entries as text."""
    rows = [
        (
            entry["timestamp"][11:19],
            entry.get("server", "-"),
            entry.get("model", "-"),
            entry.get("error_type") or ",".join(entry["finish_reasons"]) or entry["outcome"],
            str(entry["status_code"]),
            count(entry["input_tokens"]),
            count(entry["cache_read_input_tokens"]),
            count(entry["output_tokens"]),
            seconds(entry.get("time_to_first_chunk")),
            seconds(entry["duration"]),
            usd(entry.get("cost")),
        )
        for entry in entries
    ]
    headings = (
        "TIME",
        "SERVER",
        "MODEL",
        "END",
        "STATUS",
        "INPUT",
        "CACHED",
        "OUTPUT",
        "TTFT s",
        "DURATION s",
        "COST USD",
    )
    return columns(headings, rows, numbers=7)


def _query(table: Table, pk: str, limit: int | None = None) -> list[Item]:
    pages = table.client.get_paginator("query").paginate(
        TableName=table.name,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": pk}},
        ScanIndexForward=limit is None,
        PaginationConfig={} if limit is None else {"MaxItems": limit},
    )
    read = TypeDeserializer().deserialize
    return [{name: read(value) for name, value in item.items()} for page in pages for item in page["Items"]]
