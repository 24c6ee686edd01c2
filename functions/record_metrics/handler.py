"""Composition root of record_metrics: terminal events ─▶ CloudWatch metrics."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.cloudwatch import CONFIG, CloudWatch
from openai_proxy.tracing.handlers import traced

from record_metrics.consumer import RecordMetrics
from record_metrics.markers import Markers

_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"})

# Built while the sandbox initialises, which has the full CPU; an invocation has only a share of one.
_record_metrics = RecordMetrics(
    metrics=CloudWatch(
        boto3.client("cloudwatch", config=CONFIG),  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        os.environ["METRICS_NAMESPACE"],
    ),
    processed=Markers(
        boto3.client("dynamodb", config=_CONFIG),  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        os.environ["MARKERS_TABLE"],
    ),
    logger=Logger(service="record_metrics", level=os.environ.get("LOG_LEVEL", "INFO")),
)


@traced("record_metrics", os.environ)
def handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Handle one SQS batch with `ReportBatchItemFailures`."""
    return _record_metrics(event)
