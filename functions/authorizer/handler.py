"""Composition root of the authorizer: invoked by API Gateway, and by the proxy for the function URL."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config

from authorizer.authorizer import Authorizer
from authorizer.keys_table import KeysTable

# A client waits for the answer: rather none than a late one. Two tries are over before the proxy gives up, so that what
# is wrong is in this function's log; an emulator has a pace of its own.
_SECONDS = 5.0 if os.environ.get("AWS_ENDPOINT_URL") else 1.0
_CONFIG = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"mode": "standard", "total_max_attempts": 2})

# Built while the sandbox initialises: that has the full CPU, an invocation has not.
_authorizer = Authorizer(
    keys=KeysTable(
        boto3.client("dynamodb", config=_CONFIG),  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        os.environ["KEYS_TABLE"],
    ),
    logger=Logger(service="authorizer", level=os.environ.get("LOG_LEVEL", "INFO")),
)


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Answer one REQUEST authorizer event."""
    return _authorizer(event)
