"""Which SQL the local stack accepts: only what Athena has. Pure.

DuckDB runs it there, and knows statements, tables and functions that Athena (Trino) does not, some of which read files.
Its one rule: DuckDB's own parser says what a statement is made of, and only what Athena has is let through.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from console.errors import ConsoleError
from console.lake.queries import VIEW
from console.text import harmless

TABLES = frozenset({VIEW, "entries"})
FUNCTIONS = frozenset(Path(__file__).with_name("functions.txt").read_text(encoding="utf-8").split())
"""The names of https://trino.io/docs/current/functions/list.html, with `row` and `unnest`, which have other pages.

Not those of places on a map, of sketches that are stored, of machine learning, Teradata and patterns of rows: `first`,
`last` and `index` would be other functions in DuckDB. Nor what is drawn, and what says something of the server itself.
"""

_WRITTEN_AS_SYNTAX = frozenset(
    (
        "+",
        "-",
        "*",
        "/",
        "%",
        "||",
        "~~",
        "!~~",
        "like_escape",
        "not_like_escape",
        "count_star",
        "date_part",
        "timezone",
        "trunc",
        "to_years",
        "to_months",
        "to_days",
        "to_hours",
        "to_minutes",
        "to_seconds",
        "get_current_timestamp",
        "get_current_time",
        "overlay",
    )
)
"""What the parser calls an operator, LIKE, INTERVAL, EXTRACT and the like. As functions Athena has none of them."""

_PART_NAME = re.compile(r"[\w -]+")
"""What a part of WITH may be called. Where no part of a dotted name is known, DuckDB reads a file."""
_NO_OTHER = "the local stack runs SELECT and WITH, and no other statement"
_MADE_OF = ("EXPRESSION_LIST", "SHOW_REF")
_OWN_SYNTAX = {
    "exclude_list": "* EXCLUDE",
    "replace_list": "* REPLACE",
    "rename_list": "* RENAME",
    "qualify": "QUALIFY",
    "sample": "USING SAMPLE",
}


class _Found(NamedTuple):
    """What Athena does not accept, and its place in the UTF-8 of the text; None where the parser does not say."""

    what: str
    place: int | None


def check_local(sql: str) -> None:
    """Raises ConsoleError for what is not one SELECT of what Athena knows, with the line and column of it."""
    parsed = _parsed(sql)
    if parsed["error"]:
        raise _refusal(sql, _of_error(parsed))
    statements = parsed["statements"]
    if len(statements) != 1:
        says = f"there are {len(statements)} statements, and Athena runs one at a time" if statements else "it is empty"
        raise _refusal(sql, _Found(says, None))
    parts = [str(each["key"]) for each in _dicts(statements) if "key" in each and "value" in each]
    if strange := next((name for name in parts if not _PART_NAME.fullmatch(name)), None):
        says = f"the name '{strange}' after WITH may be that of a file; a name of letters, digits and '_' is none"
        raise _refusal(sql, _Found(says, None))
    tables = TABLES | {name.lower() for name in parts}
    for node in _dicts(statements):
        if found := _not_of_athena(node, sql.encode(), tables):
            raise _refusal(sql, found)


def check_runs_here(sql: str) -> None:
    """Raises ConsoleError for a function that Athena has and DuckDB has not, with the line and column of it."""
    import duckdb  # noqa: PLC0415 - it takes time to load, and AWS has Athena

    with duckdb.connect() as connection:
        rows = connection.execute("SELECT DISTINCT lower(function_name) FROM duckdb_functions()").fetchall()
    there = {name for (name,) in rows}
    for node in _dicts(_parsed(sql).get("statements")):
        if "function_name" in node and (name := _name(node)) in FUNCTIONS - there:
            says = f"Athena has the function '{name}', and DuckDB, which runs SQL on the local stack, has not"
            place: int | None = node.get("query_location")
            raise _refusal(sql, _Found(f"{says}; docs/analytics.md says what both have", place))


def _parsed(sql: str) -> Mapping[str, Any]:
    """What DuckDB's parser makes of a text."""
    import duckdb  # noqa: PLC0415

    with duckdb.connect() as connection:
        [[text]] = connection.execute(
            "SELECT json_serialize_sql(?::varchar, skip_null := true, skip_empty := true, skip_default := true)", [sql]
        ).fetchall()
    return json.loads(text)


def place_text(sql: str, place: int) -> str:
    """Where a place in the UTF-8 of a text is: "line 2:8", both counted from 1, as Athena says it."""
    before = sql.encode()[:place].decode(errors="replace")
    return f"line {before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def _of_error(parsed: Mapping[str, Any]) -> _Found:
    if parsed.get("error_type") == "not implemented":
        return _Found(_NO_OTHER, None)
    place = parsed.get("position")
    return _Found(str(parsed.get("error_message", "it cannot be read")), int(place) if place is not None else None)


def _refusal(sql: str, found: _Found) -> ConsoleError:
    where = "" if found.place is None else f"{place_text(sql, found.place)}: "
    return ConsoleError(f"The query cannot be run: {where}{harmless(found.what)}.")


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON document, from the top down."""
    if isinstance(value, dict):
        yield value  # pyright: ignore[reportUnknownVariableType]
        for each in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from _dicts(each)
    elif isinstance(value, list):
        for each in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _dicts(each)


def _not_of_athena(node: Mapping[str, Any], sql: bytes, tables: frozenset[str]) -> _Found | None:
    """What Athena would refuse of one part of a statement."""
    place: int | None = node.get("query_location")
    if own := next((text for name, text in _OWN_SYNTAX.items() if node.get(name)), None):
        return _Found(f"{own} is DuckDB's, and Athena does not have it", place)
    if "function_name" in node and not _is_known(_name(node), sql, place):
        return _Found(f"the function '{_name(node)}' is DuckDB's, and Athena does not have it", place)
    if node.get("aggregate_handling") == "FORCE_AGGREGATES":
        return _Found("GROUP BY ALL is DuckDB's, and Athena does not have it", None)
    says = _of_its_kind(node, sql, tables)
    return _Found(says, place) if says else None


def _of_its_kind(node: Mapping[str, Any], sql: bytes, tables: frozenset[str]) -> str | None:
    place: int | None = node.get("query_location")
    match node.get("type"):
        case "TABLE_FUNCTION" if (name := _name(node["function"])) != "unnest":
            return f"the table function '{name}' is DuckDB's, and Athena does not have it"
        case "BASE_TABLE" if len(_path(node)) != 1 or _name(node) not in tables:
            return f"there is no table '{'.'.join(_path(node))}'; the lake has {', '.join(sorted(TABLES))}"
        case "SELECT_NODE" if _begins_with_from(node):
            return "a query that begins with FROM is DuckDB's; in Athena it begins with SELECT"
        case "SHOW_REF":
            return _NO_OTHER
        case "OPERATOR_CAST" if place is not None and sql[place : place + 2] == b"::":
            return "'::' is DuckDB's; in Athena it is CAST(… AS …)"
        case _:
            return None


def _begins_with_from(node: Mapping[str, Any]) -> bool:
    """Whether a SELECT has columns that nobody wrote, and is none that the parser made of VALUES or DESCRIBE."""
    written = node.get("select_list", [{}])[0]
    from_table = node.get("from_table", {}).get("type")
    return written.get("type") == "STAR" and "query_location" not in written and from_table not in _MADE_OF


def _is_known(name: str, sql: bytes, place: int | None) -> bool:
    if name in FUNCTIONS:
        return True
    is_called = place is not None and re.match(rb'"?%s"?\s*\(' % re.escape(name.encode()), sql[place:], re.IGNORECASE)
    return name in _WRITTEN_AS_SYNTAX and not is_called


def _path(node: Mapping[str, Any]) -> list[str]:
    return [str(each) for each in node["qualified_name"]["path"]]


def _name(node: Mapping[str, Any]) -> str:
    return _path(node)[-1].lower()
