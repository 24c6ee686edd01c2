"""One incident of throttles, in words for somebody who knows nothing of it yet, and as an event. Pure.

One rule: the message is enough. It says what is throttled and since when, whom it hits most and by which limits,
whether raising them would help, what to run first, and where to read on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.throttles.advice import Throttled, command, kind_text, limit_text, remedy, summed

if TYPE_CHECKING:
    from openai_proxy.events.throttle_types import BlockData, CardData, HitClientData, MessageData
    from openai_proxy.events.types import IncidentEvent

Kind = Literal["client", "upstream"]
MOST_CLIENTS = 3
_LONGEST_SUBJECT = 99
_USUAL_STACK = "openai-proxy"
_CARD = "application/vnd.microsoft.card.adaptive"
_RUNBOOKS = {"client": "client-throttles.md", "upstream": "upstream-throttles.md"}
_WHY = {
    "client": "they reach limits of their own, and the proxy refuses them with 429 before a server is asked.",
    "upstream": "a server refuses the proxy's requests with 429, and no retry or fallback helped.",
}


@dataclass(frozen=True, slots=True)
class Incident:
    """Throttles of one kind, `since` when and, where it is over, `until` when (Unix seconds).

    `rows` are the rollups since `counted_from` (Unix seconds), of both kinds. `runbooks` is where the runbooks are.
    """

    kind: Kind
    stack: str
    since: float
    until: float | None
    counted_from: float
    rows: Sequence[Throttled]
    runbooks: str = "docs/runbooks"

    @property
    def own(self) -> list[Throttled]:
        """The rollups of this kind."""
        return [row for row in self.rows if row.is_of_a_server == (self.kind == "upstream")]

    @property
    def refused(self) -> int:
        """Requests of this kind that were refused."""
        return sum(row.requests for row in self.own)

    @property
    def worst(self) -> list[Throttled]:
        """The clients that are hit most, each with the limit that hit it most."""
        by_limit = summed(self.own, ("client", "source", "subject_id", "server"))
        totals = {row.client: row.requests for row in summed(self.own, ("client",))}
        first: dict[str, Throttled] = {}
        for row in by_limit:
            first.setdefault(row.client, row)
        return sorted(first.values(), key=lambda row: (-totals[row.client], row.client))[:MOST_CLIENTS]


def subject_of(incident: Incident) -> str:
    """One line, as the subject of a mail: ASCII, no longer than SNS takes."""
    what = "Clients are throttled by their limits" if incident.kind == "client" else "A server throttles the proxy"
    if incident.until is not None:
        return f"[{incident.stack}] Over: {what[0].lower()}{what[1:]}"[:_LONGEST_SUBJECT]
    return f"[{incident.stack}] {what} since {_time(incident.since)}"[:_LONGEST_SUBJECT]


def text_of(incident: Incident) -> str:
    """The whole message."""
    parts = _over(incident) if incident.until is not None else _begun(incident)
    return "\n\n".join(parts)


def _begun(incident: Incident) -> Iterable[str]:
    yield f"Clients of the stack {incident.stack} are throttled since {_time(incident.since)}: {_WHY[incident.kind]}"
    yield _whom(incident)
    yield f"Would raising limits help? {helps(incident)}"
    yield f"Do first: {_first_step(incident)}"
    yield f"See all: {_named('openai-proxy throttles --last 1h', incident)}\nRunbook: {_runbook(incident)}"


def _over(incident: Incident) -> Iterable[str]:
    until = incident.until or incident.since
    minutes = max(1, round((until - incident.since) / 60))
    what = "limits of clients refused their requests" if incident.kind == "client" else "a server refused requests"
    yield (
        f"It is over: in the stack {incident.stack} {what} from {_time(incident.since)} to {_time(until)} "
        f"({'one minute' if minutes == 1 else f'{minutes:,} minutes'})."
    )
    yield _whom(incident)
    yield f"Would raising limits have helped? {helps(incident)}"
    yield f"See all: {_named('openai-proxy throttles --last 24h', incident)}\nRunbook: {_runbook(incident)}"


def _whom(incident: Incident) -> str:
    if not incident.refused:
        return "Whom it hits is not written down yet: the command below shows it in a minute."
    totals = {row.client: row.requests for row in summed(incident.own, ("client",))}
    clients = f"{len(totals):,} clients" if len(totals) > 1 else "one client"
    refused = f"{incident.refused:,} requests were" if incident.refused > 1 else "One request was"
    since = f"{_time(incident.counted_from)} (counted by whole hours)"
    lines = [f"{refused} refused since {since}, of {clients}{_by_limit(incident)}. Hit most:"]
    for number, row in enumerate(incident.worst, 1):
        limit = limit_text(row) or row.source
        whose = f" of the {row.subject} {row.subject_id}" if row.subject in ("key", "user", "team") else ""
        model = f", model {row.model}" if row.model not in ("", "-") else ""
        lines.append(f"  {number}. {row.client}: {totals[row.client]:,} refused, most by {limit}{whose}{model}")
    return "\n".join(lines)


def _by_limit(incident: Incident) -> str:
    """How many were refused by which kind of limit, where there are several."""
    kinds: dict[str, int] = {}
    for row in incident.own:
        kinds[kind_text(row)] = kinds.get(kind_text(row), 0) + row.requests
    told = [f"{number:,} by {kind}" for kind, number in sorted(kinds.items(), key=lambda each: (-each[1], each[0]))]
    return f": {', '.join(told)}" if len(told) > 1 else ""


def helps(incident: Incident) -> str:
    """Whether raising limits would help, and why."""
    servers = summed((row for row in incident.rows if row.is_of_a_server), ("server",))
    if incident.kind == "upstream":
        names = " and ".join(row.server for row in servers[:MOST_CLIENTS]) or "the server"
        is_one = "is the bottleneck" if len(servers) < 2 else "are the bottlenecks"
        return f"No: {names} {is_one}. More of the provider, a fallback, a pool, or a slower client does."
    asked = {row.server for row in incident.own}
    busy = [row for row in servers if row.server in asked]
    if busy:
        names = " and ".join(f"{row.server} ({row.requests:,})" for row in busy[:MOST_CLIENTS])
        return f"Only in part: {names} refused requests too in this time, and would refuse more of them."
    return "Yes: no server that these clients ask has refused anything in this time."


def _first_step(incident: Incident) -> str:
    if not incident.worst:
        return f"look again: {_named('openai-proxy throttles --last 1h', incident)}"
    if incident.kind == "upstream":
        server = incident.worst[0].server
        return f"give {server} a fallback or a pool in openai_servers.yaml and deploy, or ask its provider for more."
    for row in incident.worst:
        if found := command(row):
            return f"double the limit of {row.client}:\n  {_named(found, incident)}"
    return remedy(incident.worst[0])


def _runbook(incident: Incident) -> str:
    return f"{incident.runbooks}/{_RUNBOOKS[incident.kind]}#what-to-look-at"


def _named(text: str, incident: Incident) -> str:
    return text if incident.stack == _USUAL_STACK else f"{text} --stack-name {incident.stack}"


def _time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


def chat_message(text: str, form: str) -> "MessageData":
    """The message as a webhook takes it: of Slack, or (`form` is "teams") of a workflow of Teams."""
    if form != "teams":
        return {"text": text}
    block: BlockData = {"type": "TextBlock", "wrap": True, "fontType": "Monospace", "text": text}
    card: CardData = {"type": "AdaptiveCard", "version": "1.4", "body": [block]}
    return {"type": "message", "attachments": [{"contentType": _CARD, "content": card}]}


def event_of(incident: Incident, form: str) -> "IncidentEvent":
    """The IncidentReported of an incident: the same for the same beginning, or the same end."""
    at = incident.since if incident.until is None else incident.until
    state = "began" if incident.until is None else "ended"
    event_id = ulid_of_fact(at, f"{incident.stack}\0{incident.kind}\0{state}")
    text = text_of(incident)
    worst: list[HitClientData] = [
        {
            "client_id": row.client,
            "requests": row.requests,
            "source": row.source,
            "limit": limit_text(row),
            "command": command(row),
        }
        for row in incident.worst
    ]
    event: IncidentEvent = Event(
        "IncidentReported",
        event_id,
        rfc3339(at),
        event_id,
        "openai-proxy",
        {
            "kind": incident.kind,
            "state": state,
            "since": rfc3339(incident.since),
            "until": None if incident.until is None else rfc3339(incident.until),
            "requests": incident.refused,
            "clients": worst,
            "text": text,
            "message": chat_message(text, form),
        },
    )
    return event
