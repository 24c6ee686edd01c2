"""From a terminal event to measurements, and from many measurements to few metric data. Pure.

One rule: the number of metrics is bounded. CloudWatch bills each combination of name and dimensions, and clients choose
model names; only what a server confirmed becomes a `Model`, and the rest is counted as `other`.

    metric                                                     unit     dimensions
    Requests                                                   Count    -  Server  Server,Model  Server,Outcome
    Failures                                                   Count    -  Server  Server,ErrorType  ErrorSource
    Throttles                                                  Count    -  Server  Source
    TimeToFirstChunk Duration (completed)                      Seconds  -  Server  Server,Model
    ProxyOverhead                                              Seconds  -  Server
    InputTokens OutputTokens                                   Count    -  Server  Server,Model
    CachedInputTokens ReasoningTokens UsageMissing             Count    -  Server
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched
from typing import TYPE_CHECKING, Any, Literal

from openai_proxy.events import DetailType, Event, MalformedEventError
from openai_proxy.usage import Usage

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

OUTCOMES: Mapping[DetailType, str] = {
    "InferenceCompleted": "completed",
    "InferenceFailed": "failed",
    "InferenceThrottled": "throttled",
}

OTHER = "other"
UNKNOWN = "unknown"
"""The server of a request that named none that is known."""

MOST_VALUES = 150
"""CloudWatch's limit for the values of one datum."""

Dimensions = tuple[tuple[str, str], ...]
NameModel = Callable[[str | None], str]

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}")
