"""Composition root of record_throttles: InferenceThrottled ─▶ costs table, CloudWatch, lake."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.cloudwatch import CONFIG, CloudWatch
from openai_proxy.events.bus import Bus
from openai_proxy.ledger.lake import Lake
from openai_proxy.ledger.table import CostsTable
from openai_proxy.tracing.handlers import traced

from record_throttles.busiest import Busiest
from record_throttles.consumer import RecordThrottles
from record_throttles.forecasts import Forecasts

_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"}, parameter_validation=False)

_AWS: Any = boto3  # the types of boto3 know Firehose only where its stubs are installed


def _lake(stream: str | None) -> Lake | None:
    return Lake(_AWS.client("firehose", config=_CONFIG), stream) if stream else None


_logger = Logger(service="record_throttles", level=os.environ.get("LOG_LEVEL", "INFO"))
_dynamodb = _AWS.client("dynamodb", config=_CONFIG)

# Built while the sandbox initialises, which has the full CPU; an invocation has only a share of one.
_record_throttles = RecordThrottles(
    ledger=CostsTable(_dynamodb, os.environ["COSTS_TABLE"]),
    metrics=CloudWatch(_AWS.client("cloudwatch", config=CONFIG), os.environ["METRICS_NAMESPACE"]),
    busiest=Busiest(_dynamodb, os.environ["COSTS_TABLE"]),
    logger=_logger,
    lake=_lake(os.environ.get("LAKE_STREAM")),
    forecasts=Forecasts(
        _dynamodb,
        os.environ["COSTS_TABLE"],
        Bus(_AWS.client("events", config=_CONFIG), os.environ["EVENT_BUS_NAME"]),
        _logger,
    ),
)


@traced("record_throttles", os.environ)
def handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Handle one SQS batch with `ReportBatchItemFailures`."""
    return _record_throttles(event)
