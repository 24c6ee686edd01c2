"""What becomes of a request when a call to AWS goes wrong: the table that the page `docs/faults.md` is made of.

`make faults` tries every line of it, and writes the page anew with `ARGS=--write-page`.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/faults.md"

LATE, REFUSED, FOR_GOOD = ("late", "silent", "drip"), ("unavailable", "throttled", "internal"), ("denied", "invalid")
ODD, GONE = ("empty", "object", "html", "cut"), ("reset", "lost")
_KINDS = {
    LATE: "it is slow or silent",
    REFUSED: "it is refused for now",
    FOR_GOOD: "it is refused for good",
    ODD: "its answer is none that AWS gives",
    GONE: "the connection breaks",
}


@dataclass(frozen=True)
class Line:
    """What faults of one kind do to one call.

    `client` is what the client sees: a status, and the code of an error. `recorded` is the outcome in the ledger and
    what its entry says of limits; "" where there is none. `log` is the message of the log line; "" for none.
    """

    faults: tuple[str, ...]
    client: str
    recorded: str
    log: str
    alarm: str
    policy: str = ""
    """Of LimitsFailurePolicy, where it makes a difference."""


@dataclass(frozen=True)
class Call:
    """A call that may go wrong: which one, who makes it, and how a test has it made (a name of `drivers`)."""

    title: str
    action: str
    resource: str
    of: str
    driver: str
    added: str
    """The longest time that its failure adds to a request."""
    lines: tuple[Line, ...]
    skip: int = 0
    times: int = 10_000


ALL = LATE + REFUSED + FOR_GOOD + ODD + GONE
_AFTERWARDS = (
    "Nothing: it is done after the request, from the event, and again from its queue until it has succeeded. "
    "What fails five times lies in the dead-letter queue."
)
_OUTAGE = LATE + REFUSED + ODD + GONE
CALLS: tuple[Call, ...] = (
    Call(
        "Asking the authorizer",
        *("lambda:Invoke", "AuthorizerFunction", "proxy", "new key", "At most 5 s."),
        (Line(ALL, "503 authorization_unavailable", "", "", ""),),
    ),
    Call(
        "Reading the client key",
        *("dynamodb:GetItem", "KeysTable", "functions", "new key", "At most 5 s."),
        (Line(ALL, "503 authorization_unavailable", "", "", ""),),
    ),
    Call(
        "Taking a request's share of a key's limits",
        *("dynamodb:UpdateItem", "LimitsTable", "proxy", "limited key", "At most 1 s."),
        (
            Line(_OUTAGE, "200", "completed, limits unchecked", "Limits cannot be checked", "", "open"),
            Line(_OUTAGE, "503 limits_unavailable", "failed", "Limits cannot be checked", "", "closed"),
            Line(FOR_GOOD, "503 limits_unavailable", "failed", "Limits cannot be checked", "", "open"),
        ),
    ),
    Call(
        "Giving a place back",
        *("dynamodb:UpdateItem", "LimitsTable", "proxy", "limited key", "Nothing: the client has its answer."),
        (Line(ALL, "200", "completed", "A place was not given back", ""),),
        skip=1,
    ),
    Call(
        "Reading a model's price hint",
        *("dynamodb:GetItem", "LimitsTable", "proxy", "key with a budget", "At most 1 s."),
        (Line(ALL, "200", "completed", "", ""),),
    ),
    Call(
        "Reading the response cache",
        *("dynamodb:GetItem", "CacheTable", "proxy", "key with a cache", "At most 0.5 s."),
        (Line(ALL, "200", "completed", "The response cache does not answer", ""),),
    ),
    Call(
        "Taking a lease of the response cache",
        *("dynamodb:PutItem", "CacheTable", "proxy", "key with a cache", "At most 0.5 s."),
        (Line(ALL, "200", "completed", "The response cache does not answer", ""),),
    ),
    Call(
        "Reading a large cached answer",
        *("s3:GetObject", "", "proxy", "cached object", "At most 0.5 s."),
        (Line(ALL, "200", "completed", "The object of a cached answer cannot be read", ""),),
    ),
    Call(
        "Writing a large answer for the response cache",
        *("s3:PutObject", "", "proxy", "large answer", "Nothing: the client has its answer."),
        (Line(LATE + REFUSED + FOR_GOOD + GONE, "200", "completed", "An answer was not cached", ""),),
    ),
    Call(
        "Publishing a request's events",
        *("events:PutEvents", "", "proxy", "known key", "Nothing: the client has its answer."),
        (Line(ALL, "200", "", "An event was not published", ""),),
    ),
    Call(
        "Reading a provider token",
        *("secretsmanager:GetSecretValue", "", "proxy", "server with a secret", "At most 5 s."),
        (Line(ALL, "503 token_unavailable", "failed", "", ""),),
    ),
    Call(
        "Reading a receipt",
        *("dynamodb:GetItem", "CostsTable", "proxy", "receipt", "At most 2 s."),
        (Line(ALL, "503 receipts_unavailable", "", "", ""),),
    ),
    Call(
        "Writing the ledger",
        *("dynamodb:TransactWriteItems", "CostsTable", "functions", "known key", _AFTERWARDS),
        (Line(ALL, "200", "completed", "", ""),),
        times=1,
    ),
    Call(
        "Settling a budget",
        *("dynamodb:TransactWriteItems", "LimitsTable", "functions", "key with a budget", _AFTERWARDS),
        (Line(ALL, "200", "completed", "", ""),),
        times=1,
    ),
    Call(
        "Writing metrics",
        *("cloudwatch:PutMetricData", "", "functions", "known key", _AFTERWARDS),
        (Line(ALL, "200", "completed", "", ""),),
        times=1,
    ),
    Call(
        "Storing a cached answer",
        *("dynamodb:PutItem", "CacheTable", "functions", "key with a cache", _AFTERWARDS),
        (Line(ALL, "200", "completed", "", ""),),
        times=1,
    ),
)


def page() -> str:
    """The text of `docs/faults.md`."""
    parts = [_INTRODUCTION.strip()]
    for call in CALLS:
        parts.append(f"## {call.title}\n`{call.action}`, called by the {_CALLERS[call.of]}. {call.added}")
        rows = [
            f"| {_when(line.faults)}{_policy(line)} | {_code(line.client)} | {line.recorded or 'nothing'} "
            f"| {line.log or 'none'} | {line.alarm or 'none'} |"
            for line in call.lines
        ]
        parts.append("\n".join([_HEAD, *rows]))
    return "\n\n".join(parts) + "\n"


_CALLERS = {"proxy": "proxy", "functions": "authorizer or a consumer"}
_HEAD = "| when | the client sees | the ledger has | log line | alarm |\n|---|---|---|---|---|"
_INTRODUCTION = """
# When AWS itself fails
This page is for whoever runs the proxy. For each call that it makes to AWS, the page says what happens when that call
is slow, refused, answered oddly or cut off: what the client sees, the longest time it costs, what is recorded, and
which alarm tells.

Every line is tried by a test: `make faults` starts the local stack, puts each fault in front of the embedded AWS and
compares what it sees with this page. With an emulator the proxy waits longer than the times given here, which hold on
AWS. You can try faults of your own with `make run FAULTS=faults.yaml` ([how](local.md#faults-of-aws)).
"""


def _when(faults: tuple[str, ...]) -> str:
    kinds = [words for kind, words in _KINDS.items() if set(kind) <= set(faults)]
    return ", ".join(kinds) if len(kinds) < len(_KINDS) else "whatever goes wrong"


def _policy(line: Line) -> str:
    return f", `LimitsFailurePolicy={line.policy}`" if line.policy else ""


def _code(client: str) -> str:
    status, _, code = client.partition(" ")
    return f"{status} `{code}`" if code else f"{status}, the whole answer"
