"""`openai-proxy find`: all that is kept of one request, by the id that a client quotes.

Its one rule: what could not be read is named, and does not count as absent.
"""

import argparse
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.ulid import ulid_time
from openai_proxy.ledger.shards import shard_key

from console.cache.store import INDEX
from console.costs.reading import Ledger
from console.errors import ConsoleError
from console.export.items import ledger_item
from console.logs import Asked, lines
from console.period import Period, add_period, chosen_period, today
from console.shards import divided_days
from console.stack import Table, add_place_option, add_table_options, chosen_table
from console.text import harmless, plain, to_json

Item = dict[str, Any]
_AROUND = timedelta(hours=2)
"""A log line is written when a request has ended, and the id says when it began."""


def add_find(find: argparse.ArgumentParser) -> None:
    """Give `find` its options."""
    find.description = (
        "Shows all that is kept of one request: its entry in the ledger, its line in the proxy's log, its answer in "
        "the response cache. ID is `x-inference-id` or `x-request-id` of the answer, or `id` of an event or a log "
        "line. Only an id that the client itself chose needs a period, unless it is of today or yesterday."
    )
    find.add_argument("id", metavar="ID", help="as a client quotes it")
    add_period(find)
    add_table_options(find, "CostsTable")
    add_place_option(find, "CacheTable")
    find.set_defaults(run=_run)


def entries_with(ledger: Table, id_: str, period: Period | None) -> Iterator[Item]:
    """The entries that have the id. That of an inference says its day; for others the days are `period`, or today and
    yesterday.
    """
    if of_inference := _day_of(id_):
        reading = Ledger(ledger)
        near = Period(of_inference - timedelta(days=1), of_inference + timedelta(days=1))
        rollups = reading.rollups(near)
        divided = divided_days(rollups)
        for client_id, day in sorted({(row["client_id"], row["day"]) for row in rollups}):
            pk = f"client#{client_id}#{day}"
            for place in [pk, shard_key(pk, id_)] if (client_id, day) in divided else [pk]:
                key = to_item({"pk": place, "sk": id_})
                if item := ledger.client.get_item(TableName=ledger.name, Key=key).get("Item"):
                    yield ledger_item(item, place)
    days = period or Period(today() - timedelta(days=1), today())
    reading = Ledger(ledger)
    for entry in reading.entries(reading.rollups(days)):
        if id_ in (entry.get("request_id"), entry.get("upstream_request_id")) and entry["sk"] != id_:
            yield {name: value for name, value in entry.items() if name not in ("day", "month")}


def _day_of(id_: str) -> date | None:
    try:
        day = ulid_time(id_).date()
    except ValueError:
        return None
    return day if day <= today() + timedelta(days=1) else None  # of no inference: none has begun so late


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    ledger = chosen_table("CostsTable", options, environ)
    entries = list(entries_with(ledger, options.id, chosen_period(options)))
    ids = {str(each["sk"]): None for each in entries} | ({options.id: None} if _day_of(options.id) else {})
    lines, of_log = _looked(lambda: [line for id_ in ids for line in _lines(id_, options, environ)])
    answers, of_cache = _looked(lambda: [each for entry in entries for each in _answers(entry, options, environ)])
    unseen = {"log": of_log, "cache": of_cache}
    if options.json:
        found = {"entries": [_named(each) for each in entries], "lines": lines, "answers": answers}
        print(to_json({"id": options.id, **found, "not_looked_at": {k: v for k, v in unseen.items() if v}}))
    else:
        for title, items in (("Entry", map(_named, entries)), ("Log line", lines), ("Cached answer", answers)):
            for item in items:
                print("\n".join([title, *_lines_of(item), ""]))
        for what, problem in unseen.items():
            if problem:
                print(f"The {what} could not be looked at: {harmless(problem)}")
    if not (entries or lines or answers):
        raise ConsoleError(
            f"No request '{harmless(options.id[:128])}' is known. Remedy: name its day with --day, if the client "
            "itself chose that id; throttled requests have no entry (`openai-proxy throttles`)."
        )
    return 0


def _lines(id_: str, options: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[Any]:
    began = ulid_time(id_)
    asked = Asked((began - _AROUND).timestamp(), (began + _AROUND).timestamp(), {"id": id_})
    for line in lines("proxy", asked, options, environ):
        if isinstance(line, dict):
            yield line


def _answers(entry: Item, options: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[Item]:
    table = chosen_table("CacheTable", options, environ)
    values = to_item({":client": entry["client_id"], ":event": entry["sk"]})
    pages = table.client.get_paginator("query").paginate(
        TableName=table.name,
        IndexName=INDEX,
        KeyConditionExpression="client_id = :client",
        FilterExpression="event_id = :event",
        ExpressionAttributeValues=values,
    )
    for item in (from_item(item) for page in pages for item in page["Items"]):
        yield {name: value for name, value in item.items() if not isinstance(value, (bytes, bytearray))}


def _looked(look: Any) -> tuple[list[Any], str]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it takes time to load

    try:
        return look(), ""
    except (BotoCoreError, ClientError, ConsoleError) as error:
        return [], str(error)


def _named(entry: Item) -> Item:
    """An entry under the names that everything else has: `id` in the place of the table's own keys."""
    return {"id": entry["sk"], **{name: value for name, value in entry.items() if name not in ("pk", "sk")}}


def _lines_of(item: Mapping[str, Any]) -> list[str]:
    longest = max(map(len, item), default=0)
    return [f"  {name.ljust(longest)}  {_text(value)}" for name, value in item.items() if value is not None]


def _text(value: Any) -> str:
    from decimal import Decimal  # noqa: PLC0415

    match value:
        case Decimal():
            return plain(value)
        case dict() | list():
            return harmless(" ".join(to_json(value).split()))
        case _:
            return harmless(str(value))
