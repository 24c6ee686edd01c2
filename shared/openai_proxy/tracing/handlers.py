"""The authorizer and the consumers in X-Ray: what they ask of AWS, as Powertools' Tracer writes it down.

One rule: none of it is loaded unless tracing is on and X-Ray's daemon is there, and everything works without it. The
content of requests and answers is never sent.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Answer = TypeVar("Answer")
Handler = Callable[[Mapping[str, Any], object], Answer]


def traced(service: str, environ: Mapping[str, str]) -> Callable[[Handler[Answer]], Handler[Answer]]:
    """Decorates a handler: its sampled invocations have a subsegment with every call of AWS below it.

    POWERTOOLS_TRACE_DISABLED of `environ` switches it on; AWS_XRAY_DAEMON_ADDRESS is where X-Ray's daemon listens,
    which Lambda tells and emulators do not.
    """

    def decorated(handler: Handler[Answer]) -> Handler[Answer]:
        if environ.get("POWERTOOLS_TRACE_DISABLED") != "false" or not environ.get("AWS_XRAY_DAEMON_ADDRESS"):
            return handler
        try:
            from aws_lambda_powertools import Tracer  # noqa: PLC0415
            from aws_xray_sdk.core import xray_recorder  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]
        except ImportError:  # a layer that `sam build` alone has built does not carry it
            return handler

        # Calls outside an invocation, as while the sandbox initialises, belong to no trace: that is no error.
        xray_recorder.configure(context_missing="IGNORE_ERROR")  # pyright: ignore[reportUnknownMemberType]
        tracer = Tracer(service=service, patch_modules=["botocore"])
        return tracer.capture_lambda_handler(handler, capture_response=False, capture_error=False)

    return decorated
