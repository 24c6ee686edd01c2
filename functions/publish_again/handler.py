"""Composition root of publish_again: events that the bus did not take ─▶ the bus."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.tracing.handlers import traced

from publish_again.bus import EventBus, OverflowQueue
from publish_again.consumer import PublishAgain

_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
"""The queue tries again: a sandbox that waits and asks at once would only add to what the bus refuses."""
_AWS: Any = boto3  # the types of boto3 know a service only where its stubs are installed

# Built while the sandbox initialises, which has the full CPU; an invocation has only a share of one.
_logger = Logger(service="publish_again", level=os.environ.get("LOG_LEVEL", "INFO"))
_publish_again = PublishAgain(
    EventBus(_AWS.client("events", config=_CONFIG), os.environ["EVENT_BUS_NAME"]),
    OverflowQueue(_AWS.client("sqs", config=_CONFIG), os.environ["PUBLISH_AGAIN_QUEUE"], _logger).hide,
    _logger,
)


@traced("publish_again", os.environ)
def handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Handle one SQS batch with `ReportBatchItemFailures`."""
    return _publish_again(event)
