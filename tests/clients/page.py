"""What docs/clients.md says of the clients that were tried, made of what is written down of each."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.clients.known import BY_HAND, CLIENTS, Client

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "clients.md"
RESULTS = Path(__file__).parent / "results.json"
BEGIN, END = "<!-- written by make clients -->\n", "<!-- end -->\n"
DIRECTLY = " directly"
SECONDS = 60
"""How long a client may take for one question; some repeat what fails for longer."""
_HEAD = (
    "| client | version | tried on | question | stream | tool | text of an error "
    "| calls of a server that always answers 500 | and of one that answers 429 with `Retry-After` |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


class Tried(NamedTuple):
    """What came of one question, and how many calls the server got for it.

    `verdict` is `yes`, `no`, `none` (the client has no such thing), or `unfinished`: it was stopped after SECONDS.
    """

    verdict: str
    calls: int


class Result(NamedTuple):
    """What came of one client: its version, or the `reason` why it does not run here; what was tried, by its name.

    `date` is the day on which that was, as YYYY-MM-DD, in UTC.
    """

    version: str
    date: str
    reason: str
    tries: Mapping[str, Tried]


def results() -> dict[str, Result]:
    """What is written down of each client, by its name."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return {
        name: Result(**(each | {"tries": {way: Tried(*said) for way, said in each["tries"].items()}}))
        for name, each in found.items()
    }


def keep(client: Client, result: Result) -> None:
    """Write down what came of a client, and the page anew."""
    found = results() | {client.name: result}
    ordered = {each.name: found[each.name]._asdict() for each in CLIENTS if each.name in found}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(each)}" for name, each in ordered.items())
    RESULTS.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table_of(results()) + END + rest.partition(END)[2], encoding="utf-8")


def table_of(found: Mapping[str, Result]) -> str:
    """The part of the page that was measured."""
    ran = [client for client in CLIENTS if client.name in found and found[client.name].version]
    rows = "".join(row_of(client, found[client.name]) for client in ran)
    reasons = [
        f"{client.name} ({found[client.name].date}: {found[client.name].reason})"
        if client.name in found
        else client.name
        for client in CLIENTS
        if client not in ran
    ]
    parts = "".join(
        f"\n**{client.name}**\n\n```{client.language}\n{client.settings}\n```\n"
        for client in ran
        if "yes" in (found[client.name].tries["chat"].verdict, found[client.name].tries["stream"].verdict)
    )
    missing = f"\nNot run here: {', '.join(reasons)}.\n" if reasons else ""
    return f"{_HEAD}{rows}{missing}{parts}{BY_HAND}"


def row_of(client: Client, result: Result) -> str:
    """The row of one client."""
    if not result.version:
        return f"| {client.name} | | {result.date} | {result.reason} | | | | | |\n"
    shown = [_answer(result.tries[way]) for way in ("chat", "stream", "tool")]
    shown += [{"yes": "shown", "unfinished": "keeps trying"}.get(result.tries["400"].verdict, "not shown")]
    shown += [f"{_calls(result.tries[way])}, directly {_calls(result.tries[way + DIRECTLY])}" for way in ("500", "429")]
    return f"| {client.name} | {result.version} | {result.date} | {' | '.join(shown)} |\n"


def _answer(tried: Tried) -> str:
    if tried.verdict == "none":
        return "has none"
    return f"{tried.verdict}, {tried.calls} {'call' if tried.calls == 1 else 'calls'}"


def _calls(tried: Tried) -> str:
    return f"{tried.calls} in {SECONDS} s" if tried.verdict == "unfinished" else str(tried.calls)
