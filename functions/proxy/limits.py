"""A client key's limits and budgets: taken before a request goes out, given back when it is done.

DynamoDB is the only state, so limits hold at any number of sandboxes. Its one rule: no check without taking. What one
update checks it takes; what it could not take was not free. Requests of keys without limits never come here.
"""

import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

from openai_proxy.servers import Server
from openai_proxy.usage import Usage

from proxy.aws import Aws, AwsError
from proxy.body import RequestBody
from proxy.client_key import Limits
from proxy.errors import LimitError, UnavailableError
from proxy.limits_item import (
    Item,
    Share,
    Source,
    Taken,
    Windows,
    headers,
    key_of,
    refusal,
    release,
    renewal,
    taking,
)
from proxy.log import log
from proxy.routing import Candidate

FailurePolicy = Literal["open", "closed"]
"""What happens while the table cannot be asked: requests pass and their events say `unchecked`, or they are refused."""

_PAUSES = (0.01, 0.03, 0.08, 0.2)
_FOR_A_MOMENT = frozenset(
    {
        "TransactionConflictException",
        "TransactionInProgressException",
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "InternalServerError",
    }
)
_MOST_TRIES = 12
"""Each try fails only when another request has changed the item in between, in a way that matters."""
_LEASE_MARGIN = 30
"""Seconds after the end of an invocation: its place is given back before, or its sandbox is gone."""
_PRICE_KEPT = 300.0
_UNKNOWN_PRICE = (Decimal("0.00001"), Decimal("0.00004"))
"""USD per token of input and output, until the first answer of a model has been settled: those of an expensive one."""
_LONGEST_MODEL = 128
_MIDDLING_ANSWER = 1000
"""Tokens."""


class LimitsTable:
    """Takes and releases."""

    def __init__(
        self,
        aws: Aws,
        table: str,
        on_failure: FailurePolicy,
        clock: Callable[[], float] = time.time,
        timeout: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._aws = aws
        self._table = table
        self._on_failure: FailurePolicy = on_failure
        self._clock = clock
        self._timeout = timeout
        self._sleep = sleep
        self._prices: dict[str, tuple[float, tuple[Decimal, Decimal]]] = {}

    def take(
        self, limits: Limits, inference_id: str, body: RequestBody, candidate: Candidate, deadline: float
    ) -> Taken:
        """Take a request's share. Raises LimitError (429), UnavailableError (503) when the policy is `closed`."""
        windows = Windows.of(self._clock())
        try:
            share = self._share(limits, inference_id, body, candidate, deadline)
            return self._take(limits, share)
        except AwsError as error:
            log("ERROR", "Limits cannot be checked", reason=str(error), policy=self._on_failure)
            if self._on_failure == "closed":
                message = "The limits of the client key cannot be checked at the moment."
                raise UnavailableError(503, "limits_unavailable", message, headers={"retry-after": "5"}) from error
            return Taken(limits, windows, None, {})

    def release(self, taken: Taken, usage: Usage) -> None:
        """Give back the place of a request that is done, and correct its tokens. Never raises: leases end."""
        limits, share = taken.limits, taken.share
        if share is None or (limits.parallel is None and limits.tpm is None):
            return
        has_lease, same_minute = limits.parallel is not None, limits.tpm is not None
        tokens = usage.input_tokens + usage.output_tokens
        try:
            while has_lease or same_minute:
                request = release(taken.windows, share, tokens, has_lease=has_lease, same_minute=same_minute)
                if self._update(limits, request)[0] or not (has_lease and same_minute):
                    return
                same_minute = False  # another minute has begun: only the place is left to be given back
        except AwsError as error:
            log("WARN", "A place was not given back: its lease will end", reason=str(error))

    def _take(self, limits: Limits, share: Share) -> Taken:
        windows = Windows.of(self._clock())
        for _ in range(_MOST_TRIES):
            applied, item = self._update(limits, taking(limits, windows, share))
            if applied:
                return Taken(limits, windows, share, headers(limits, item or {}, windows))
            if item is None:
                item = self._item(limits)
            windows = _no_older_than(Windows.of(self._clock()), item)
            if stale := renewal(limits, item, windows):
                self._update(limits, stale)
            elif refused := refusal(limits, item, windows, share.tokens):
                raise _limit_error(*refused, headers(limits, item, windows))
        raise AwsError("dynamodb:UpdateItem", "the item of the limits did not come to rest")

    def _update(self, limits: Limits, request: dict[str, Any]) -> tuple[bool, Item | None]:
        """Whether the update's condition held, and the item. A settlement that holds the item does so for a moment."""
        arguments = {"TableName": self._table, "Key": key_of(limits), **request}
        for pause in _PAUSES:
            try:
                return self._aws.update_item(arguments, self._timeout)
            except AwsError as error:
                if error.code not in _FOR_A_MOMENT:
                    raise
            self._sleep(pause * (0.5 + random.random()))  # noqa: S311 - spreads retries, guards nothing
        return self._aws.update_item(arguments, self._timeout)

    def _item(self, limits: Limits) -> Item:
        arguments = {"TableName": self._table, "Key": key_of(limits), "ConsistentRead": True}
        return self._aws.get_item(arguments, self._timeout)

    def _share(
        self, limits: Limits, inference_id: str, body: RequestBody, candidate: Candidate, deadline: float
    ) -> Share:
        inputs, outputs = 0, 0
        if limits.needs_estimate:
            inputs = body.input_tokens
            outputs = (body.asked.tokens or _MIDDLING_ANSWER) * body.asked.answers if body.generates else 0
        cost = Decimal(0)
        if limits.has_budget:
            model = candidate.replacement or body.model or candidate.server.model
            input_price, output_price = self._prices_of(candidate.server, model)
            cost = inputs * input_price + outputs * output_price
        tokens = inputs + outputs if limits.tpm is None else min(inputs + outputs, limits.tpm)
        return Share(inference_id, int(deadline) + _LEASE_MARGIN, tokens, cost)

    def _prices_of(self, server: Server, model: str) -> tuple[Decimal, Decimal]:
        """USD per token of input and output: what the settlement of earlier requests has left in the table."""
        key = f"price#{server.name}#{model[:_LONGEST_MODEL]}"
        known = self._prices.get(key)
        if known and known[0] > self._clock():
            return known[1]
        item = self._aws.get_item({"TableName": self._table, "Key": {"pk": {"S": key}}}, self._timeout)
        prices = (Decimal(item["input"]["N"]), Decimal(item["output"]["N"])) if item else _UNKNOWN_PRICE
        self._prices[key] = (self._clock() + (_PRICE_KEPT if item else _PRICE_KEPT / 10), prices)
        return prices


def _no_older_than(windows: Windows, item: Item) -> Windows:
    """The windows of the item where its clock is ahead of this sandbox's by a moment: one minute is one minute."""
    minute = int(item["minute"]["N"]) if "minute" in item else 0
    return Windows.of(minute * 60) if minute > windows.minute else windows


def _limit_error(source: Source, seconds: int, own_headers: dict[str, str]) -> LimitError:
    if source == "key_budget":
        message = "The budget of this client key is used up."
        quota = {"x-should-retry": "false"}
        return LimitError(429, "insufficient_quota", message, source, seconds, own_headers | quota)
    what = {"key_rpm": "requests a minute", "key_tpm": "tokens a minute", "key_parallel": "requests at the same time"}
    message = f"This client key has reached its limit of {what[source]}. Try again in {seconds} s."
    return LimitError(429, "rate_limit_exceeded", message, source, seconds, own_headers)
