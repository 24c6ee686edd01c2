"""Composition root of apply_guards: InferenceCompleted and InferenceFailed ─▶ overlays of client keys, GuardActed."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.events.bus import Bus
from openai_proxy.events.topic import Topic
from openai_proxy.guards.engine import Engine
from openai_proxy.guards.file import GUARDS_FILE, load_guards
from openai_proxy.pricing.price_book import LAYER, PriceBook
from openai_proxy.tracing.handlers import traced

from apply_guards.consumer import ApplyGuards
from apply_guards.evidence import Table
from apply_guards.overlays import Overlays
from apply_guards.teller import Teller, Words

_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"}, parameter_validation=False)

_AWS: Any = boto3  # the types of boto3 know SNS only where its stubs are installed


def _topic(arn: str | None) -> Topic | None:
    return Topic(_AWS.client("sns", config=_CONFIG), arn) if arn else None


# Built while the sandbox initialises, which has the full CPU; an invocation has only a share of one.
_logger = Logger(service="apply_guards", level=os.environ.get("LOG_LEVEL", "INFO"))
_dynamodb = _AWS.client("dynamodb", config=_CONFIG)
_apply_guards = ApplyGuards(
    prices=PriceBook.from_environ(os.environ),
    engine=Engine(
        load_guards(LAYER / (os.environ.get("GUARDS_FILE") or GUARDS_FILE)), Table(_dynamodb, os.environ["COSTS_TABLE"])
    ),
    acts=Overlays(_dynamodb, os.environ["KEYS_TABLE"]),
    teller=Teller(
        Bus(_AWS.client("events", config=_CONFIG), os.environ["EVENT_BUS_NAME"]),
        _topic(os.environ.get("ALARM_TOPIC")),
        Words(os.environ["STACK_NAME"], os.environ["RUNBOOKS_URL"], os.environ["ALARM_CHAT"]),
        _logger,
    ),
    logger=_logger,
)


@traced("apply_guards", os.environ)
def handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Handle one SQS batch with `ReportBatchItemFailures`."""
    return _apply_guards(event)
