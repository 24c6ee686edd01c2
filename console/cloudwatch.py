"""CloudWatch as the commands use it: the application's namespace, and the metric that `costs reconcile` publishes."""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from console.aws import session
from console.stack import USUAL_NAME

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

DRIFT = "ReconciliationDrift"


def cloudwatch_client(environ: Mapping[str, str]) -> "CloudWatchClient":
    """A client for the Region of the environment, or of the AWS settings. Raises botocore's errors."""
    return session(environ).client("cloudwatch")


USUAL_NAMESPACE = f"OpenAIProxy/{USUAL_NAME}"


def namespace_of(environ: Mapping[str, str]) -> str:
    """The stack's output `MetricsNamespace`, unless its parameter of that name was changed, which a variable says."""
    return environ.get("METRICS_NAMESPACE") or f"OpenAIProxy/{environ.get('STACK_NAME') or USUAL_NAME}"


def publish_drift(client: "CloudWatchClient", namespace: str, server: str, drift: Decimal) -> None:
    """Publish a drift from 0 to 1 as a percentage, for a server. Raises botocore's errors."""
    client.put_metric_data(
        Namespace=namespace,
        MetricData=[
            {
                "MetricName": DRIFT,
                "Dimensions": [{"Name": "Server", "Value": server}],
                "Value": float(100 * drift),
                "Unit": "Percent",
            }
        ],
    )
