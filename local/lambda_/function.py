"""The deployed proxy function as a sandbox needs it: its own configuration, and the environment Lambda adds. Pure.

What the template says reaches the sandbox; only what differs on this machine is overridden.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Function:
    """A deployed function. `timeout` is in seconds; `environment` is what the template gave it."""

    name: str
    arn: str
    handler: str
    runtime: str
    timeout: float
    memory_mb: int
    environment: Mapping[str, str]
    log_group: str
    log_format: str
    log_level: str | None

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> Self:
        """Read the answer of GetFunctionConfiguration. Raises KeyError."""
        logging = configuration.get("LoggingConfig", {})
        return cls(
            name=configuration["FunctionName"],
            arn=configuration["FunctionArn"],
            handler=configuration["Handler"],
            runtime=configuration["Runtime"],
            timeout=float(configuration["Timeout"]),
            memory_mb=int(configuration["MemorySize"]),
            environment=configuration.get("Environment", {}).get("Variables", {}),
            log_group=logging.get("LogGroup") or f"/aws/lambda/{configuration['FunctionName']}",
            log_format=logging.get("LogFormat", "Text"),
            log_level=logging.get("ApplicationLogLevel"),
        )

    @property
    def region(self) -> str:
        """The region in the function's ARN."""
        return self.arn.split(":")[3]

    def sandbox_environment(self, task_root: Path, layer: Path, overrides: Mapping[str, str]) -> dict[str, str]:
        """What the runtime's process finds in its environment, but for AWS_LAMBDA_RUNTIME_API.

        `layer` is what lies in /opt/python on Lambda; `overrides` come last. Reserved variables:
        https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
        """
        reserved = {
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(layer),
            # A sandbox has none of the packages that the user has installed for themselves.
            "PYTHONNOUSERSITE": "1",
            "LAMBDA_TASK_ROOT": str(task_root),
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "_HANDLER": self.handler,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{self.runtime}",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_FORMAT": self.log_format,
            "AWS_LAMBDA_LOG_GROUP_NAME": self.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": "local",
            "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
            "AWS_XRAY_DAEMON_ADDRESS": "169.254.79.129:2000",
        }
        level = {"AWS_LAMBDA_LOG_LEVEL": self.log_level} if self.log_level else {}
        return {**self.environment, **reserved, **level, **overrides}

    @staticmethod
    def of_managed_instances(concurrency: int) -> dict[str, str]:
        """What else the environment of a managed instance has, for so many requests at a time."""
        return {
            "AWS_LAMBDA_MAX_CONCURRENCY": str(concurrency),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
        }
