"""Composition root of store_response: ResponseCaptured ─▶ response cache."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.pricing.price_book import PriceBook
from openai_proxy.tracing.handlers import traced

from store_response.consumer import StoreResponse
from store_response.table import CacheTable

_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"})

# Built while the sandbox initialises, which has the full CPU; an invocation has only a share of one.
_store_response = StoreResponse(
    cache=CacheTable(
        boto3.client("dynamodb", config=_CONFIG),  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        os.environ["CACHE_TABLE"],
    ),
    prices=PriceBook.from_environ(os.environ),
    logger=Logger(service="store_response", level=os.environ.get("LOG_LEVEL", "INFO")),
)


@traced("store_response", os.environ)
def handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Handle one SQS batch with `ReportBatchItemFailures`."""
    return _store_response(event)
