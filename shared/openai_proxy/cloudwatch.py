"""The only module that calls PutMetricData. One rule: as few calls as the service's limits allow."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from openai_proxy.aws_answers import NoAnswerError

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

MOST_DATA = 1000
"""The service's limit for one call."""

MOST_VALUES_IN_A_CALL = 5000
"""Keeps one call below the service's 1 MB."""


class CloudWatch:
    """Where metrics go."""

    def __init__(self, client: "CloudWatchClient", namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def put(self, data: "Sequence[MetricDatumTypeDef]") -> None:
        """Publish `data`. Raises NoAnswerError and botocore's errors; what was put until then stays put."""
        for part in in_calls(data):
            answer = self._client.put_metric_data(Namespace=self._namespace, MetricData=part)
            if not answer["ResponseMetadata"].get("RequestId"):  # the answer to this call has nothing else in it
                raise NoAnswerError("CloudWatch did not say that it has the metrics")


def in_calls(data: "Sequence[MetricDatumTypeDef]") -> "Iterator[list[MetricDatumTypeDef]]":
    """Split `data` into what one call takes."""
    part: list[MetricDatumTypeDef] = []
    values = 0
    for datum in data:
        size = len(datum.get("Values", ()))
        if len(part) == MOST_DATA or (part and values + size > MOST_VALUES_IN_A_CALL):
            yield part
            part, values = [], 0
        part.append(datum)
        values += size
    if part:
        yield part
