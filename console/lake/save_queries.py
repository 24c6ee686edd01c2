"""`costs save-queries`: saves the queries of analytics in Athena, where its console shows them. `make deploy` runs it.

Its one rule: it changes what it saved itself, which the end of the description says, and no query of anybody else, even
if that has the same name.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from console.arguments import announced
from console.aws import session
from console.lake.athena import lake_names
from console.lake.queries import SavedQuery, saved_queries
from console.output import show
from console.stack import add_stack_option, stack_name
from console.tables import Columns, table
from console.text import harmless, to_json

MARK = " (saved by openai-proxy)"
_MOST_AT_ONCE = 50
"""How many queries Athena describes in one answer."""


class Found(NamedTuple):
    """A query that the workgroup has."""

    id: str
    name: str
    description: str
    sql: str
    database: str


class Act(NamedTuple):
    """What happens to a query: created, updated, removed or unchanged. `id` is "" for one that is not there yet."""

    what: str
    name: str
    id: str
    query: SavedQuery | None


def acts(wanted: Iterable[SavedQuery], found: Iterable[Found], database: str) -> list[Act]:
    """What makes the workgroup's own queries those that are wanted; others are left alone. Pure."""
    own: dict[str, list[Found]] = {}
    for each in sorted(found):
        if each.description.endswith(MARK):
            own.setdefault(each.name, []).append(each)
    planned: list[Act] = []
    for query in wanted:
        # A database cannot be changed, so a query of another one is made anew.
        fitting = [each for each in own.get(query.name, ()) if each.database == database]
        if not fitting:
            planned.append(Act("created", query.name, "", query))
            continue
        kept = fitting[0]
        own[query.name].remove(kept)
        is_same = (kept.description, kept.sql) == (query.description + MARK, query.sql)
        planned.append(Act("unchanged" if is_same else "updated", query.name, kept.id, query))
    return planned + [Act("removed", each.name, each.id, None) for rest in own.values() for each in rest]


class NamedQueries:
    """The saved queries of a workgroup. Methods raise botocore's errors."""

    def __init__(self, client: Any, workgroup: str, database: str) -> None:
        self._client = client
        self._workgroup = workgroup
        self._database = database

    def save(self, wanted: Iterable[SavedQuery]) -> list[Act]:
        """Make them those that are wanted. Returns what was done to each."""
        planned = acts(wanted, self._found(), self._database)
        for act in planned:
            self._do(act)
        return planned

    def _found(self) -> list[Found]:
        pages = self._client.get_paginator("list_named_queries").paginate(WorkGroup=self._workgroup)
        ids = [each for page in pages for each in page.get("NamedQueryIds", ())]
        found: list[Found] = []
        for first in range(0, len(ids), _MOST_AT_ONCE):
            described = self._client.batch_get_named_query(NamedQueryIds=ids[first : first + _MOST_AT_ONCE])
            for each in described["NamedQueries"]:
                texts = (each["NamedQueryId"], each["Name"], each.get("Description", ""), each["QueryString"])
                found.append(Found(*texts, each["Database"]))
        return found

    def _do(self, act: Act) -> None:
        match act:
            case Act("created", query=SavedQuery() as query):
                self._create(query)
            case Act("updated", query=SavedQuery() as query):
                try:
                    self._client.update_named_query(NamedQueryId=act.id, **_texts(query))
                except ClientError as error:
                    if error.response.get("Error", {}).get("Code") != "InvalidAction":
                        raise
                    self._create(query)  # an emulator that cannot update: the new one is there before the old one goes
                    self._client.delete_named_query(NamedQueryId=act.id)
            case Act("removed"):
                self._client.delete_named_query(NamedQueryId=act.id)
            case _:
                pass

    def _create(self, query: SavedQuery) -> None:
        self._client.create_named_query(Database=self._database, WorkGroup=self._workgroup, **_texts(query))


def _texts(query: SavedQuery) -> dict[str, str]:
    return {"Name": query.name, "Description": query.description + MARK, "QueryString": query.sql}


def add_save_queries(command: argparse.ArgumentParser) -> None:
    """Give `save-queries` its options. What stands before its name holds for it too."""
    command.description = (
        "Creates and updates the queries of analytics/queries in the workgroup of the lake, and removes those of its "
        "own that are no longer there. Queries that others saved there stay as they are."
    )
    command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, for programs")
    add_stack_option(command, inherited=True)
    command.set_defaults(run=run_save_queries)
    announced(command)


def run_save_queries(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run `costs save-queries`. A stack without a lake has nothing to save. Raises ConsoleError, botocore's errors."""
    names = lake_names(options, environ)
    done = NamedQueries(session(environ).client("athena"), *names).save(saved_queries()) if names else []
    if options.json:
        print(to_json([{"name": act.name, "done": act.what} for act in done]))
    else:
        show(said(done, names[0]) if names else nothing_said(stack_name(options, environ)))
    return 0


def nothing_said(stack: str) -> str:
    """What is said of a stack without a lake."""
    return f"The stack '{harmless(stack)}' has no lake, so no queries are saved."


def said(done: Sequence[Act], workgroup: str) -> str:
    """What was done, in a line, and below it each query that it was done to."""
    counts = {what: sum(act.what == what for act in done) for what in ("created", "updated", "removed", "unchanged")}
    figures = ", ".join(f"{count} {what}" for what, count in counts.items())
    line = f"Saved queries in Athena's workgroup {harmless(workgroup)}: {figures}."
    rows = [(harmless(act.name), act.what) for act in done if act.what != "unchanged"]
    return f"{line}\n\n{table(Columns(('NAME', 'DONE')), rows)}" if rows else line
