"""A process that takes of a key's limits, as a sandbox does, until it is refused. The limits come by standard input.

One rule: the limits table of the proxy decides, and its calls go over HTTP to DynamoDB's stand-in.
"""

import json
import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_limits import Limits
from openai_proxy.servers import parse_servers
from proxy.aws.client import Aws, Credentials
from proxy.http.transport import HttpTransport, Timeouts
from proxy.limits.counters import TableAccess
from proxy.limits.table import LimitsTable
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.request.routing import Candidate

from bench.units import BEGAN

TABLE = "limits-once"
TOKENS = 10
"""The most that an answer may have."""
_TIMEOUT, _PATIENCE = 30.0, 120.0
"""Seconds: the emulator has one thread for all, and this machine may be busy."""
_MOST_FAILURES = 50
_SERVER = parse_servers("up: {url: 'https://up.example/v1', token: t, model: m, retries: 0}")["up"]
_BODY = json.dumps({"model": "m", "max_tokens": TOKENS, "messages": [{"role": "user", "content": "hi"}]}).encode()
_REQUEST = InferenceRequest("function_url", "POST", "", "", {"content-type": "application/json"}, _BODY, None)


class Taken(NamedTuple):
    """What one process was let through with, or all of them. `failed` are takes that the table could not check."""

    requests: int = 0
    tokens: int = 0
    cost: Decimal = Decimal(0)
    failed: int = 0

    def and_(self, other: "Taken") -> "Taken":
        """The takes of both processes together."""
        requests, tokens = self.requests + other.requests, self.tokens + other.tokens
        return Taken(requests, tokens, self.cost + other.cost, self.failed + other.failed)

    def to_line(self) -> str:
        """The line by which a process tells it."""
        return json.dumps([self.requests, self.tokens, str(self.cost), self.failed])

    @classmethod
    def from_line(cls, line: str) -> "Taken":
        """The takes that the line of a process tells."""
        requests, tokens, cost, failed = json.loads(line)
        return cls(requests, tokens, Decimal(cost), failed)


def limits_of(fields: Mapping[str, Any]) -> Limits:
    """A key's limits, from JSON, where a budget is a text."""
    values: dict[str, Any] = {
        name: Decimal(value) if name.startswith("budget") else value for name, value in fields.items()
    }
    return Limits(**values)


def take_all(table: LimitsTable, limits: Limits) -> Taken:
    """Take until the limits refuse. What cannot be checked is tried again, as a client would. Raises RuntimeError if
    that goes on.
    """
    taken = Taken()
    while taken.failed < _MOST_FAILURES:
        body = RequestBody(_REQUEST, Target("up", "/chat/completions"))
        got = table.take(limits, new_ulid(time.time()), body, [Candidate(_SERVER)], time.time() + _PATIENCE)
        if not got.is_checked:
            taken = taken.and_(Taken(failed=1))
        elif got.refused:
            return taken
        else:
            share = got.share
            assert share
            taken = taken.and_(Taken(1, share.tokens, got.cost if limits.has_budget else Decimal(0)))
    raise RuntimeError("the limits cannot be checked")


def main(endpoint: str) -> None:
    """Take of one key after another. Time stands still, so that no window ends meanwhile."""
    transport = HttpTransport(Timeouts())
    aws = Aws(transport.post, lambda: Credentials("test", "test", None), "us-east-1", endpoint)
    access = TableAccess(aws, TABLE, lambda: float(BEGAN), timeout=_TIMEOUT)
    for line in sys.stdin:
        asked = json.loads(line)
        table = LimitsTable(access, "closed", shards=lambda _, count=asked["shards"]: count)
        print(take_all(table, limits_of(asked["limits"])).to_line(), flush=True)
    transport.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
