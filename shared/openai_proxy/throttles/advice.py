"""What rollups of throttles say, in words, and the command that helps. Pure.

One rule: a command is one that can be pasted, for the key or team whose limit it was; where raising a limit does not
help, there is none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

UPSTREAM = "upstream"
_COUNTED = {"rpm": "requests a minute", "tpm": "tokens a minute", "parallel": "requests at the same time"}
_SPANS = {"day": "a day", "week": "a week", "month": "a month", "total": "in total"}
_KINDS = _COUNTED | {"budget": "budget", "budget_reserved": "what running requests have reserved of a budget"}
_BUDGETS = ("budget", "budget_reserved")


@dataclass(frozen=True, slots=True)
class Throttled:
    """How often one client was refused, for one reason, and what was true of its latest request.

    `retry_after` is the sum of the seconds that it was told to wait. What nobody said is "".
    """

    client: str
    source: str
    server: str
    model: str
    requests: int
    retry_after: float = 0.0
    subject: str = ""
    subject_id: str = ""
    span: str = ""
    limit: str = ""
    key_id: str = ""
    team: str = ""

    @classmethod
    def of(cls, rollup: Mapping[str, Any]) -> "Throttled":
        """A rollup of the costs table."""
        return cls(
            client=rollup["client_id"],
            source=rollup["source"],
            server=rollup["server"],
            model=rollup["model"],
            requests=int(rollup["requests"]),
            retry_after=float(rollup.get("retry_after", 0)),
            subject=rollup.get("throttle_subject", ""),
            subject_id=rollup.get("throttle_subject_id", ""),
            span=rollup.get("throttle_span", ""),
            limit=rollup.get("throttle_limit", ""),
            key_id=rollup.get("key_id", ""),
            team=rollup.get("team", ""),
        )

    @property
    def names(self) -> dict[str, str]:
        """What its rollup is called by, in the words of the ledger."""
        return {"client_id": self.client, "server": self.server, "model": self.model}

    @property
    def kind(self) -> str:
        """What ran out, whosever it is: rpm, tpm, parallel, budget, budget_reserved or upstream."""
        return self.source.removeprefix("key_").removeprefix("team_")

    @property
    def is_of_a_server(self) -> bool:
        """Whether a server refused it, and no limit of the owner's."""
        return self.source == UPSTREAM


def summed(rows: Iterable[Throttled], by: Sequence[str]) -> list[Throttled]:
    """Rows together that are the same `by` these fields, those with most requests first.

    Of the other fields a sum has those of its largest row, but what its rows do not share is "".
    """
    groups: dict[tuple[str, ...], list[Throttled]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, name) for name in by), []).append(row)
    found = [_together(sorted(each, key=lambda row: (-row.requests, row.client))) for each in groups.values()]
    return sorted(found, key=lambda row: (-row.requests, row.client, row.source, row.server, row.model))


_NAMES = ("client", "source", "server", "model", "subject", "subject_id", "key_id", "team")


def _together(rows: Sequence[Throttled]) -> Throttled:
    first = rows[0]
    shared: dict[str, Any] = {
        name: getattr(first, name) if len({getattr(row, name) for row in rows}) == 1 else "" for name in _NAMES
    }
    is_one_limit = shared["subject_id"] and shared["source"]
    return Throttled(
        **shared,
        span=first.span if is_one_limit else "",
        limit=first.limit if is_one_limit else "",
        requests=sum(row.requests for row in rows),
        retry_after=sum(row.retry_after for row in rows),
    )


def limit_text(row: Throttled) -> str:
    """The limit that refused: "60 requests a minute"; "" where nobody said."""
    if row.is_of_a_server:
        return f"the limit of {row.subject_id or row.server}" if row.source else ""
    if not row.limit:
        return ""
    if row.kind in _BUDGETS:
        return f"{_apart(row.limit)} USD {_SPANS.get(row.span, row.span)}".rstrip()
    counted = _COUNTED.get(row.kind, row.kind)
    return f"1 {counted.replace('s ', ' ', 1)}" if row.limit == "1" else f"{_apart(row.limit)} {counted}"


def kind_text(row: Throttled) -> str:
    """What ran out: "requests a minute"."""
    return "the server's own limit" if row.is_of_a_server else _KINDS.get(row.kind, row.kind)


def command(row: Throttled, name: str = "openai-proxy") -> str:
    """The command that doubles the limit; "" where none does."""
    if row.is_of_a_server or not row.limit:
        return ""
    option = f"--budget-{row.span}" if row.kind in _BUDGETS else f"--{row.kind}"
    doubled = _plain(str(2 * Decimal(row.limit)))
    if row.subject == "team":
        return f"{name} teams update {row.subject_id} {option} {doubled}"
    if row.subject == "key" and row.key_id:
        return f"{name} keys update {row.key_id} {option} {doubled}"
    return ""


def remedy(row: Throttled) -> str:
    """What helps, in a sentence."""
    if row.is_of_a_server:
        return (
            f"Raising limits of clients does not help: the server '{row.subject_id or row.server}' is the bottleneck. "
            "Ask its provider for more, or give it a fallback or a pool in openai_servers.yaml."
        )
    if row.kind == "budget_reserved":
        return "Requests that run have reserved the rest of the budget; it comes back when they cost less."
    if row.subject == "user":
        return "The limit is that of the user's plan: raise it in identity.yaml and deploy."
    if found := command(row):
        return f"Raising the limit helps: {found}"
    return "Raising the limit of the key helps: openai-proxy keys list shows it."


def _plain(amount: str) -> str:
    """An amount without needless zeros, as commands take it."""
    text = f"{Decimal(amount):f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def _apart(amount: str) -> str:
    """An amount for people: thousands apart."""
    return f"{Decimal(_plain(amount)):,f}"
