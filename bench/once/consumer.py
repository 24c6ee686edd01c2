"""record_cost in a process of its own, which may be killed at any moment: a line for each batch, one for its answer.

One rule: consumer, ledger and client are those that run on Lambda. Between them and the table stands what DynamoDB does
and an emulator does not: it refuses what is too much at a time, and an answer gets lost.
"""

import json
import random
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from botocore.exceptions import ClientError
from openai_proxy.backoff import pause_before_retry
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import load_price_book
from openai_proxy.refusals import DONE
from record_cost.consumer import RecordCost

from bench.units import BEGAN

TABLE = "costs-once"
_LOST = 0.02
"""The share of calls that are carried out, and answered with an error."""
_CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard"}, parameter_validation=False)


def client_of(endpoint: str) -> Any:
    """boto3's client of DynamoDB, at an emulator."""
    session: Any = boto3.Session("test", "test", region_name="us-east-1")
    return session.client("dynamodb", endpoint_url=endpoint, config=_CONFIG)


def create_table(client: Any, name: str = TABLE) -> None:
    """A table of entries and rollups."""
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )


class Busy:
    """The client of a table that refuses a `share` of transactions for load, by chance, as DynamoDB does."""

    def __init__(self, client: Any, share: float, chance: random.Random) -> None:
        self._client, self._share, self._chance = client, share, chance

    def transact_write_items(self, **request: Any) -> Any:
        """Raises ClientError for what is refused, or carried out and not answered."""
        request["TransactItems"] = _plain(request["TransactItems"])
        items = len(request["TransactItems"])
        if self._chance.random() < self._share:
            is_throttled = self._chance.random() < 0.5
            busy, code = (0, "ThrottlingError") if is_throttled else (items - 1, "TransactionConflict")
            raise _cancelled([code if place == busy else DONE for place in range(items)])
        return self._call(self._client.transact_write_items, request)

    def transact_get_items(self, **request: Any) -> Any:
        """Raises ClientError."""
        return self._call(self._client.transact_get_items, request)

    def query(self, **request: Any) -> Any:
        """Raises ClientError."""
        return self._call(self._client.query, request)

    def _call(self, call: Callable[..., Any], request: dict[str, Any]) -> Any:
        answer = call(**request)
        if self._chance.random() < _LOST:
            response: Any = {"Error": {"Code": "InternalServerError"}, "ResponseMetadata": {"HTTPStatusCode": 500}}
            raise ClientError(response, "TransactWriteItems")
        return answer


def _plain(value: Any) -> Any:
    """A value with numbers as MiniStack writes them: it compares what comes again with its own form of it."""
    if isinstance(value, list):
        return [_plain(each) for each in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if fields.keys() == {"N"}:
        return {"N": f"{Decimal(fields['N']).normalize():f}"}
    return {name: _plain(each) for name, each in fields.items()}


def _cancelled(codes: list[str]) -> ClientError:
    reasons = [{"Code": code} for code in codes]
    response: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
    return ClientError(response, "TransactWriteItems")


def consumer_of(
    endpoint: str, share: float, seed: str, pause: Callable[[int], None] = pause_before_retry
) -> RecordCost:
    """record_cost, with a table that refuses a `share` of its transactions."""
    busy: Any = Busy(client_of(endpoint), share, random.Random(seed))  # noqa: S311 - the same in every run
    logger = Logger(service="once", level="CRITICAL")
    return RecordCost(load_price_book(), CostsTable(busy, TABLE, pause), logger, clock=lambda: float(BEGAN))


def main(endpoint: str, share: str, seed: str) -> None:
    """Record what comes by standard input until that ends."""
    consumer = consumer_of(endpoint, float(share), seed)
    for line in sys.stdin:
        print(json.dumps(consumer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
