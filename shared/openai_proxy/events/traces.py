"""Which requests' traces the messages of an SQS batch belong to. Pure.

EventBridge hands the trace header of PutEvents to a queue, and SQS to Lambda as the attribute `AWSTraceHeader`. Its one
rule: a malformed header, or one of a request that is not traced, is ignored.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_SAMPLED = re.compile(r"(?=.*(?:^|;)Sampled=1(?:;|$))(?:.*;)?Root=(1-[0-9a-f]{8}-[0-9a-f]{24})(?:;.*)?")


def traces_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The X-Ray ids of the traced requests among `records`, each once, in their order."""
    headers = (_header(record.get("attributes")) for record in records)
    return list(dict.fromkeys(match[1] for header in headers if (match := _SAMPLED.fullmatch(header))))


def _header(attributes: Mapping[str, Any] | None) -> str:
    return str((attributes or {}).get("AWSTraceHeader", ""))
