"""The only module that calls PutMetricData. One rule: a call that CloudWatch may have heard is never made again here.

CloudWatch adds up whatever it gets, and does not recognise copies. So the client must not repeat calls by itself
(`CONFIG`): data that certainly did not arrive is put again, and if data may have arrived, the caller is told.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, HTTPClientError

from openai_proxy.aws_answers import NoAnswerError, is_transient
from openai_proxy.backoff import pause_before_retry

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

MOST_DATA = 1000
"""The service's limit for one call."""

MOST_VALUES_IN_A_CALL = 5000
"""Keeps one call below the service's 1 MB."""

CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
"""Of a client that calls once: botocore would repeat what timed out, without a word."""

ATTEMPTS = 3


class CloudWatch:
    """Where metrics go."""

    def __init__(
        self, client: "CloudWatchClient", namespace: str, pause: Callable[[int], None] = pause_before_retry
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._pause = pause

    def put(self, data: "Sequence[MetricDatumTypeDef]") -> None:
        """Publish `data`. What was published before an error stays published.

        Raises NoAnswerError if CloudWatch may have the rest, and botocore's errors if it does not.
        """
        for part in in_calls(data):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._put(part)
                    break
                except (ClientError, ConnectTimeoutError, EndpointConnectionError) as error:
                    if attempt == ATTEMPTS or not _is_worth_a_try(error):
                        raise
                    self._pause(attempt)

    def _put(self, part: "list[MetricDatumTypeDef]") -> None:
        """One call. Raises as `put`."""
        try:
            answer = self._client.put_metric_data(Namespace=self._namespace, MetricData=part)
        except (ConnectTimeoutError, EndpointConnectionError):
            raise  # no connection: nothing was sent
        except HTTPClientError as error:
            raise NoAnswerError(f"no answer: {type(error).__name__}") from error
        except ClientError as error:
            if _status_of(error) >= 500:
                raise NoAnswerError(f"CloudWatch failed: {_code_of(error)}") from error
            raise
        if not answer["ResponseMetadata"].get("RequestId"):  # a real answer to this call has nothing else in it
            raise NoAnswerError("CloudWatch did not say that it has the metrics")


def _is_worth_a_try(error: Exception) -> bool:
    """Whether a call that did not arrive may do so in a moment."""
    return not isinstance(error, ClientError) or is_transient(_code_of(error), _status_of(error))


def _code_of(error: ClientError) -> str:
    response: Any = error.response
    return str(response["Error"].get("Code"))


def _status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


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
