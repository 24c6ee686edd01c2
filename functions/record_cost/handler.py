"""Composition root of record_cost: InferenceCompleted and InferenceFailed ─▶ costs table."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.pricing import DEFAULT_PRICES_FILE, load_price_book

from record_cost.consumer import RecordCost
from record_cost.table import CostsTable

_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"})

# Built while the sandbox initialises: that has the full CPU, an invocation has not.
_record_cost = RecordCost(
    prices=load_price_book(Path(os.environ.get("PRICES_FILE") or DEFAULT_PRICES_FILE)),
    ledger=CostsTable(
        boto3.client("dynamodb", config=_CONFIG),  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        os.environ["COSTS_TABLE"],
    ),
    logger=Logger(service="record_cost", level=os.environ.get("LOG_LEVEL", "INFO")),
)


def handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Handle one SQS batch with `ReportBatchItemFailures`."""
    return _record_cost(event)
