"""CloudWatch as the commands use it: the application's namespace, and the metric that `costs reconcile` publishes."""

import os
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from console.aws import session

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

NAMESPACE = os.environ.get("METRICS_NAMESPACE") or f"OpenAIProxy/{os.environ.get('STACK_NAME') or 'openai-proxy'}"
"""The stack's output `MetricsNamespace`, unless its parameter of that name was changed."""
DRIFT = "ReconciliationDrift"


def cloudwatch_client(environ: Mapping[str, str]) -> "CloudWatchClient":
    """A client for the Region of the environment, or of the AWS settings. Raises botocore's errors."""
    return session(environ).client("cloudwatch")


def publish_drift(client: "CloudWatchClient", server: str, drift: Decimal) -> None:
    """Publish a drift from 0 to 1 as a percentage, for a server. Raises botocore's errors."""
    client.put_metric_data(
        Namespace=NAMESPACE,
        MetricData=[
            {
                "MetricName": DRIFT,
                "Dimensions": [{"Name": "Server", "Value": server}],
                "Value": float(100 * drift),
                "Unit": "Percent",
            }
        ],
    )
