"""Composition root of settle_limits: terminal events of keys with a budget ─▶ limits table, BudgetThresholdReached."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.events.bus import Bus
from openai_proxy.pricing.price_book import PriceBook
from openai_proxy.tracing.handlers import traced

from settle_limits.consumer import SettleLimits
from settle_limits.price_hints import PriceHints
from settle_limits.table import LimitsTable

_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"})

# Built while the sandbox initialises, which has the full CPU; an invocation has only a share of one.
_logger = Logger(service="settle_limits", level=os.environ.get("LOG_LEVEL", "INFO"))
_limits = LimitsTable(
    boto3.client("dynamodb", config=_CONFIG),  # pyright: ignore[reportUnknownMemberType] - stubs of all services
    os.environ["LIMITS_TABLE"],
)
_settle_limits = SettleLimits(
    prices=PriceBook.from_environ(os.environ),
    limits=_limits,
    bus=Bus(
        boto3.client("events", config=_CONFIG),  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        os.environ["EVENT_BUS_NAME"],
    ),
    hints=PriceHints(_limits.write_hint, _limits.usual_answer, _logger),
    logger=_logger,
)


@traced("settle_limits", os.environ)
def handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Handle one SQS batch with `ReportBatchItemFailures`."""
    return _settle_limits(event)
