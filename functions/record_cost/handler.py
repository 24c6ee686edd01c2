"""Composition root of record_cost: InferenceCompleted and InferenceFailed ─▶ costs table, CloudWatch, lake."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.cloudwatch import CONFIG, CloudWatch
from openai_proxy.ledger.lake import Lake
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import PriceBook
from openai_proxy.tracing.handlers import traced

from record_cost.consumer import RecordCost

# boto3 does not check parameters here: DynamoDB checks them too, and a full batch then takes 40 % less CPU.
_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"}, parameter_validation=False)

_AWS: Any = boto3  # the types of boto3 know Firehose only where its stubs are installed


def _lake(stream: str | None) -> Lake | None:
    return Lake(_AWS.client("firehose", config=_CONFIG), stream) if stream else None


# Built while the sandbox initialises, which has the full CPU; an invocation has only a share of one.
_record_cost = RecordCost(
    prices=PriceBook.from_environ(os.environ),
    ledger=CostsTable(
        boto3.client("dynamodb", config=_CONFIG),  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        os.environ["COSTS_TABLE"],
    ),
    logger=Logger(service="record_cost", level=os.environ.get("LOG_LEVEL", "INFO")),
    lake=_lake(os.environ.get("LAKE_STREAM")),
    metrics=CloudWatch(
        boto3.client("cloudwatch", config=CONFIG),  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        os.environ["METRICS_NAMESPACE"],
    ),
)


@traced("record_cost", os.environ)
def handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Handle one SQS batch with `ReportBatchItemFailures`."""
    return _record_cost(event)
