"""Composition root of tell_incidents: an alarm of throttles ─▶ one message that a person can act on."""

import os
from collections.abc import Mapping
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.events.bus import Bus
from openai_proxy.events.topic import Topic
from openai_proxy.tracing.handlers import traced

from tell_incidents.consumer import TellIncidents
from tell_incidents.store import Incidents

_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"})

_AWS: Any = boto3  # the types of boto3 know SNS only where its stubs are installed

_tell_incidents = TellIncidents(
    store=Incidents(_AWS.client("dynamodb", config=_CONFIG), os.environ["COSTS_TABLE"], os.environ["MARKERS_TABLE"]),
    topic=Topic(_AWS.client("sns", config=_CONFIG), os.environ["ALARM_TOPIC"]),
    bus=Bus(_AWS.client("events", config=_CONFIG), os.environ["EVENT_BUS_NAME"]),
    logger=Logger(service="tell_incidents", level=os.environ.get("LOG_LEVEL", "INFO")),
    stack=os.environ["STACK_NAME"],
    form=os.environ["ALARM_CHAT"],
    runbooks=os.environ["RUNBOOKS_URL"],
)


@traced("tell_incidents", os.environ)
def handler(event: Mapping[str, Any], _context: object) -> None:
    """Handle the records of one SNS event."""
    _tell_incidents(event)
