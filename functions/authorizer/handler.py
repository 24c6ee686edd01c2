"""Composition root of the authorizer: invoked by API Gateway, and by the proxy for the function URL."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config

from authorizer.authorizer import Authorizer
from authorizer.keys_table import KeysTable

# A client waits for the answer: rather none than a late one.
_CONFIG = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard"})

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
