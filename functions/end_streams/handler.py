"""Composition root of end_streams: streams whose lease may be over ─▶ InferenceFailed, where nobody else has told."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from openai_proxy.events.bus import Bus
from openai_proxy.events.streams import signature_of
from openai_proxy.tracing.handlers import traced

from end_streams.consumer import EndStreams
from end_streams.queue import StreamsQueue
from end_streams.table import StreamsTable

_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"})
_AWS: Any = boto3  # the types of boto3 know a service only where its stubs are installed

# Built while the sandbox initialises, which has the full CPU; an invocation has only a share of one.
_logger = Logger(service="end_streams", level=os.environ.get("LOG_LEVEL", "INFO"))
_secret = os.environ.get("STREAM_WEBHOOK_SECRET", "")


def _sign(text: str) -> str:
    """The signature for a webhook; "" where its secret cannot be read: then the webhook is not called."""
    try:
        secret = _AWS.client("secretsmanager", config=_CONFIG).get_secret_value(SecretId=_secret)["SecretString"]
    except (BotoCoreError, ClientError, KeyError):
        _logger.exception("A webhook is not told of a stream: its secret is unavailable")
        return ""
    return signature_of(secret, text)


_end_streams = EndStreams(
    StreamsTable(_AWS.client("dynamodb", config=_CONFIG), os.environ["STREAMS_TABLE"]),
    Bus(_AWS.client("events", config=_CONFIG), os.environ["EVENT_BUS_NAME"]),
    StreamsQueue(_AWS.client("sqs", config=_CONFIG), os.environ["STREAMS_QUEUE"]).look_later,
    _logger,
    _sign if _secret else None,
)


@traced("end_streams", os.environ)
def handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Handle one SQS batch with `ReportBatchItemFailures`."""
    return _end_streams(event)
