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
    when: str = ""
    """In words, where the faults are not those of whole kinds."""


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
    by: str = "proxy"
    """Who makes the call, as the page calls it."""
    too: str = ""
    """Another call that goes wrong in the same way."""


ALL = LATE + REFUSED + FOR_GOOD + ODD + GONE
_AFTERWARDS = (
    "No request waits for it: it is done afterwards, from the event, and again from its queue until it has succeeded. "
    "What fails five times lies in the dead-letter queue."
)
_OUTAGE = LATE + REFUSED + ODD + GONE
_NOT_KNOWN = "Requests failed before it was known whose they are"
_UNCHECKED, _REFUSED = "Limits cannot be checked", "The limits table refuses what the proxy asks"
_NOT_CONFIRMED, _NOT_PUBLISHED = "An event was not confirmed", "An event was not published"
_QUEUED = "An event was queued"
_NO_CACHE = "The response cache does not answer"
CALLS: tuple[Call, ...] = (
    Call(
        "Asking the authorizer",
        *("lambda:Invoke", "AuthorizerFunction", "proxy", "new key", "A request waits at most 5 s for it."),
        (Line(ALL, "503 authorization_unavailable", "", _NOT_KNOWN, "unauthorized-failures"),),
    ),
    Call(
        "Reading the client key",
        *("dynamodb:GetItem", "KeysTable", "functions", "new key", "A request waits at most 5 s for it."),
        (Line(ALL, "503 authorization_unavailable", "", _NOT_KNOWN, "unauthorized-failures, key-checks-failed"),),
        by="authorizer",
    ),
    Call(
        "Taking a request's share of a key's limits",
        *("dynamodb:UpdateItem", "LimitsTable", "proxy", "limited key", "A request waits at most 2 s for it."),
        (
            Line(_OUTAGE, "200", "completed, limits unchecked", _UNCHECKED, "limits-unchecked", "open"),
            Line(
                *(_OUTAGE, "503 limits_unavailable", "failed, limits unchecked", _UNCHECKED),
                *("limits-unchecked, proxy-failures", "closed"),
            ),
            Line(FOR_GOOD, "503 limits_unavailable", "failed, limits unchecked", _REFUSED, "proxy-failures"),
        ),
    ),
    Call(
        "Giving a request's share back",
        *(
            "dynamodb:UpdateItem",
            "LimitsTable",
            "proxy",
            "limited key",
            "No request waits for it: the client has its answer.",
        ),
        (Line(ALL, "200", "completed", "A share of limits was not given back", "limits-not-returned"),),
        skip=1,
    ),
    Call(
        "Reading a model's price hint",
        *("dynamodb:GetItem", "LimitsTable", "proxy", "key with a budget", "A request waits at most 1 s for it."),
        (
            Line(LATE + REFUSED + FOR_GOOD + ODD, "200", "completed", "A price hint cannot be read", ""),
            Line(GONE, "200", "completed", "", "", when="a connection breaks: the read is sent again on another"),
        ),
        times=1,
    ),
    Call(
        "Reading the response cache",
        *("dynamodb:GetItem", "CacheTable", "proxy", "key with a cache", "A request waits at most 0.2 s for it."),
        (Line(ALL, "200", "completed", _NO_CACHE, ""),),
    ),
    Call(
        "Taking a lease of the response cache",
        *("dynamodb:PutItem", "CacheTable", "proxy", "key with a cache", "A request waits at most 0.2 s for it."),
        (Line(ALL, "200", "completed", _NO_CACHE, ""),),
    ),
    Call(
        "Reading a large cached answer",
        *("s3:GetObject", "", "proxy", "cached object", "A request waits at most 0.5 s for it."),
        (Line(ALL, "200", "completed", "The object of a cached answer cannot be read", ""),),
    ),
    Call(
        "Keeping a large answer for the response cache",
        *("s3:PutObject", "", "proxy", "large answer", "No request waits for it: the client has its answer."),
        (
            Line(
                tuple(fault for fault in ALL if fault != "drip"),  # the answer has no bytes that could drip
                *("200", "completed", "An answer was not cached: its object was not put", ""),
                when="whatever goes wrong",
            ),
        ),
    ),
    Call(
        "Publishing a request's events",
        *("events:PutEvents", "", "proxy", "known key", "No request waits for it: the client has its answer."),
        (Line(ALL, "200", "completed", _QUEUED, "events-queued"),),
    ),
    Call(
        "Publishing a request's events, and queueing them",
        *("events:PutEvents", "", "proxy", "known key", "No request waits for it: the client has its answer."),
        (
            Line(
                *(("late", "drip", *ODD, "lost"), "200", "completed", _NOT_CONFIRMED, "events-not-published"),
                when="both took them, and the answers do not come, or are none that AWS gives",
            ),
            Line(
                *(("silent", "unavailable", "internal", "reset"), "200", "", _NOT_CONFIRMED, "events-not-published"),
                when="neither took them, and none says so for certain",
            ),
            Line(
                *(("throttled", "denied", "invalid"), "200", "", _NOT_PUBLISHED, "events-not-published"),
                when="both refuse them",
            ),
        ),
        too="sqs:SendMessage",
    ),
    Call(
        "Reading a provider token",
        *("secretsmanager:GetSecretValue", "", "proxy", "server with a secret", "A request waits at most 5 s for it."),
        (
            Line(
                *(ALL, "503 token_unavailable", "failed", "A server's token is unavailable"),
                "token-unavailable, proxy-failures",
            ),
        ),
    ),
    Call(
        "Reading a receipt",
        *("dynamodb:GetItem", "CostsTable", "proxy", "receipt", "A request waits at most 2 s for it."),
        (Line(ALL, "503 receipts_unavailable", "failed", "", "proxy-failures"),),
    ),
    Call(
        "Writing the ledger",
        *("dynamodb:TransactWriteItems", "CostsTable", "functions", "known key", _AFTERWARDS),
        (Line(ALL, "200", "completed", "", "record-cost-age, record-cost-dead-letters"),),
        times=1,
        by="`record_cost`",
    ),
    Call(
        "Settling a budget",
        *("dynamodb:TransactWriteItems", "LimitsTable", "functions", "key with a budget", _AFTERWARDS),
        (Line(ALL, "200", "completed", "", "settle-limits-age, settle-limits-dead-letters"),),
        times=1,
        by="`settle_limits`",
    ),
    Call(
        "Writing metrics",
        *("cloudwatch:PutMetricData", "", "functions", "known key", _AFTERWARDS),
        (Line(ALL, "200", "completed", "", "record-metrics-age, record-metrics-dead-letters"),),
        times=1,
        by="`record_metrics`",
    ),
    Call(
        "Storing a cached answer",
        *("dynamodb:PutItem", "CacheTable", "functions", "key with a cache", _AFTERWARDS),
        (Line(ALL, "200", "completed", "", "store-response-age, store-response-dead-letters"),),
        times=1,
        by="`store_response`",
    ),
)


def page() -> str:
    """The text of `docs/faults.md`."""
    parts = [_INTRODUCTION.strip()]
    for call in CALLS:
        calls = " and ".join(f"`{each}`" for each in (call.action, call.too) if each)
        parts.append(f"## {call.title}\n{calls}, called by {CALLERS.get(call.by, call.by)}. {call.added}")
        rows = [
            f"| {line.when or _when(line.faults)}{_policy(line)} | {_code(line.client)} | {line.recorded or 'nothing'} "
            f"| {line.log or _OF_THE_REQUEST[line.client == '200']} | {line.alarm or 'none'} |"
            for line in call.lines
        ]
        parts.append("\n".join([_HEAD, *rows]))
    return "\n\n".join(parts) + "\n"


CALLERS = {"proxy": "the proxy", "authorizer": "the authorizer"}
_OF_THE_REQUEST = ("that of the request", "none")
"""What the log has of it where it has no line of its own: that of a request that failed has the error's code."""
_HEAD = "| when | the client sees | the ledger has | log line | alarm |\n|---|---|---|---|---|"
_INTRODUCTION = """
# When AWS itself fails
This page is for whoever runs the proxy. With it you can look up, for each call that it makes to AWS, what happens when
that call is slow, refused, answered oddly or cut off: what the client sees, the longest time it costs, what is
recorded, and which alarm tells.

`make faults` tries every line: it starts the local stack, puts each fault in front of the embedded AWS and compares
what it sees with this page. `make test` tries a few. With an emulator the proxy waits longer than the times given here,
which hold on AWS. You can try faults of your own with `make run FAULTS=faults.yaml` ([how](local.md#faults-of-aws)).

It also lets many clients ask at once, for a minute with each failure policy, while every fifth call to AWS goes wrong
at random and sandboxes are killed; then what clients saw, the log, the ledger, its sums, the budgets and the metrics
must agree, and every place must be free. `make faults ARGS="--soak 600 -k soak"` does so for ten minutes; `--seed 2`
lets other things go wrong. And for a minute the bus takes nothing, while clients ask by both doors: nothing is lost.
`make faults ARGS="--outage 3600 -k outage"` has it away for an hour, after which the last events come within some
fifteen minutes. All of it takes about an hour on two cores.
"""


def _when(faults: tuple[str, ...]) -> str:
    kinds = [words for kind, words in _KINDS.items() if set(kind) <= set(faults)]
    return ", ".join(kinds) if len(kinds) < len(_KINDS) else "whatever goes wrong"


def _policy(line: Line) -> str:
    return f", `LimitsFailurePolicy={line.policy}`" if line.policy else ""


def _code(client: str) -> str:
    status, _, code = client.partition(" ")
    return f"{status} `{code}`" if code else f"{status}, the whole answer"
