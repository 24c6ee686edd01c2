"""The part of events that says how a stream ended. Only type checkers load this module, through `types`."""

from typing import Literal, NotRequired, TypedDict


class StreamData(TypedDict):
    """How a stream that can be read again ended. `signature` is for a webhook, where one is told."""

    status: Literal["completed", "failed", "stopped"]
    events: int
    respond_async: bool
    signature: NotRequired[str]
