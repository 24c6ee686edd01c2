"""What `cache` shows: sums of what is kept and what it saved, and single answers without their content. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from openai_proxy.pricing.rates import EXACT

from console.cache.store import Answer
from console.tables import Columns, table
from console.text import count, harmless, usd

BY: Mapping[str, Callable[[Answer], str]] = {
    "client": lambda answer: answer.client_id,
    "server": lambda answer: answer.server,
    "model": lambda answer: answer.model or "-",
    "scope": lambda answer: answer.scope,
    "path": lambda answer: answer.path,
}
OF_LEDGER = {"client": "client_id", "server": "server", "model": "model"}
"""The dimensions that rollups know too, so that hits and savings can stand beside answers."""


@dataclass(slots=True)
class Sum:
    """What is kept, and how often it was served. `hits` is None where the ledger was not asked or does not know the
    dimension.
    """

    answers: int = 0
    size: int = 0
    stored: int = 0
    hits: int | None = None
    saved: Decimal = Decimal(0)
    hits_priced: int = 0

    def add(self, other: "Sum") -> None:
        self.answers += other.answers
        self.size += other.size
        self.stored += other.stored
        if other.hits is not None:
            self.hits = (self.hits or 0) + other.hits
            self.saved = EXACT.add(self.saved, other.saved)
            self.hits_priced += other.hits_priced

    @property
    def known_saving(self) -> Decimal | None:
        """What hits saved, as far as that is known; None when there were hits and the saving of none is known."""
        return None if self.hits and not self.hits_priced else self.saved

    def to_json(self) -> dict[str, Any]:
        hits = {"cache_hits": self.hits, "hits_priced": self.hits_priced, "cost_saved": self.known_saving}
        hits = dict.fromkeys(hits) if self.hits is None else hits
        return {"answers": self.answers, "bytes": self.size, "stored_bytes": self.stored} | hits


@dataclass(slots=True)
class Stats:
    """Sums by some of `BY`, greatest savings first, with their total."""

    by: Sequence[str]
    rows: dict[tuple[str, ...], Sum] = field(default_factory=dict[tuple[str, ...], Sum])
    has_hits: bool = False

    @property
    def total(self) -> Sum:
        total = Sum(hits=0) if self.has_hits else Sum()
        for each in self.rows.values():
            total.add(each)
        return total

    def add_answers(self, answers: Iterable[Answer], object_sizes: Mapping[str, int]) -> None:
        """Count answers; `object_sizes` are those of the bodies on S3, by their keys."""
        for each in answers:
            stored = object_sizes.get(each.object or "", 0) if each.stored_size is None else each.stored_size
            self._at(tuple(BY[name](each) for name in self.by)).add(Sum(1, each.body_size, stored))

    def add_rollups(self, rollups: Iterable[Mapping[str, Any]]) -> None:
        """Add the hits that rollups of the ledger count. A row without any has 0 hits afterwards, not None."""
        self.has_hits = True
        for each in self.rows.values():
            each.hits = each.hits or 0
        for row in rollups:
            if hits := int(row.get("cache_hits", 0)):
                saved, priced = row.get("cost_saved", Decimal(0)), int(row.get("hits_priced", 0))
                self._at(tuple(str(row.get(OF_LEDGER[name], "-")) for name in self.by)).add(
                    Sum(hits=hits, saved=saved, hits_priced=priced)
                )

    def sorted(self) -> list[tuple[tuple[str, ...], Sum]]:
        return sorted(self.rows.items(), key=lambda row: (-row[1].saved, -(row[1].hits or 0), -row[1].answers, row[0]))

    def to_json(self) -> list[dict[str, Any]]:
        return [dict(zip(self.by, names, strict=True)) | each.to_json() for names, each in self.sorted()]

    def _at(self, names: tuple[str, ...]) -> Sum:
        return self.rows.setdefault(names, Sum())


def stats_notes(stats: Stats, hits_of: str | None, left: Mapping[str, int]) -> Iterator[str]:
    """What stands below the sums: `hits_of` is the period of the hits, `left` is what AWS has not deleted yet."""
    if hits_of and stats.rows:
        yield f"Hits {hits_of}, as the ledger counts them for who asked; answers are those of who asked first."
        if unpriced := (stats.total.hits or 0) - stats.total.hits_priced:
            yield f"What {many(unpriced, 'hit')} saved is not known, and not in these sums."
    if left["answers"] or left["objects"]:
        yield (
            f"Not counted: {many(left['answers'], 'answer')} that expired, and {many(left['objects'], 'object')} of "
            f"answers that are gone ({size_text(left['bytes'])}). AWS deletes them in its time."
        )


def stats_table(stats: Stats, width: int | None, *, with_hits: bool) -> str:
    """The sums as text. `width` None is any width."""
    rows = [*stats.sorted(), (("TOTAL", *[""] * (len(stats.by) - 1)), stats.total)]
    hits = ("HITS", "SAVED USD") if with_hits else ()
    figures = ["ANSWERS", "SIZE", "STORED", *hits]
    shown = [
        [count(each.answers), size_text(each.size), size_text(each.stored), *_hits(each, with_hits)] for _, each in rows
    ]
    names = [[harmless(name) for name in names] for names, _ in rows]
    lines = [[*each, *line] for each, line in zip(names, shown, strict=True)]
    headings = [*(name.upper() for name in stats.by), *figures]
    return table(Columns(headings, numbers=len(figures), drop=("STORED", "SIZE")), lines, width=width, total=True)


def answers_table(answers: Iterable[Answer], now: float, width: int | None) -> str:
    """Single answers, one a line."""
    headings = ["KEY", "AGE", "LEFT", "SIZE", "COST USD", "SERVER", "MODEL", "CLIENT", "SCOPE", "FORM"]
    rows = [
        [
            each.cache_key[:12],
            time_text(now - each.created_at),
            time_text(each.expires_at - now),
            size_text(each.body_size),
            "-" if each.cost is None else usd(each.cost),
            *(harmless(text) for text in (each.server, each.model or "-", each.client_id, each.scope)),
            "stream" if each.stream else "whole",
        ]
        for each in answers
    ]
    drop = ("FORM", "SCOPE", "COST USD", "SIZE", "SERVER", "AGE", "CLIENT")
    return table(Columns(headings, drop=drop, whole=headings[:5]), rows, width=width)


def answer_json(answer: Answer) -> dict[str, Any]:
    """All that is known of an answer, without its content."""
    return {
        "cache_key": answer.cache_key,
        "event_id": answer.event_id,
        "client_id": answer.client_id,
        "scope": answer.scope,
        "server": answer.server,
        "path": answer.path,
        "model": answer.model,
        "stream": answer.stream,
        "bytes": answer.body_size,
        "stored_bytes": answer.stored_size,
        "object": answer.object,
        "cost": answer.cost,
        "created_at": moment(answer.created_at),
        "expires_at": moment(answer.expires_at),
    }


def moment(unix_time: int) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(unix_time, tz=UTC).isoformat().replace("+00:00", "Z")


def size_text(size: int) -> str:
    """Bytes as people read them: 512 B, 1.5 kB, 20.0 MB."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} TB"


def time_text(seconds: float) -> str:
    """A length of time, to its largest unit: 45 s, 12 min, 3 h, 9 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _hits(each: Sum, with_hits: bool) -> list[str]:
    if not with_hits:
        return []
    if not each.hits:
        return ["0", "-"]
    return [count(each.hits), usd(each.saved) if each.hits_priced else "unpriced"]


def many(number: int, what: str) -> str:
    """So many of them: `1 answer`, `2 answers`."""
    return f"{count(number)} {what}{'' if number == 1 else 's'}"
