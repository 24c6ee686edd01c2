"""What an endpoint of the demo server gives back: one JSON object, a stream of events, bytes, or a refusal. Pure."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

INVALID = "invalid_request_error"

Body = Mapping[str, Any]
"""A request's JSON object, or the fields of its form."""


@dataclass(frozen=True, slots=True)
class Json:
    """One JSON object."""

    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Events:
    """Server-sent events of JSON objects. `named` puts each one's `type` before it; `done` ends with `[DONE]`.

    OpenAI names the events of Responses and images, and only chat and text completions end with `[DONE]`.
    """

    chunks: Iterator[dict[str, Any]]
    named: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are, piece by piece, with further headers if any."""

    pieces: Iterator[bytes]
    media_type: str


Reply = Json | Events | Raw

Respond = Callable[[Body, Body], Reply]
"""An endpoint: from a request's fields and the directions in its field `demo` to a reply. Raises RefusedError."""


def object_of(value: Any) -> dict[str, Any]:
    """`value` when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def list_of(value: Any) -> list[Any]:
    """`value` when it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def new_id(prefix: str) -> str:
    """A new id as OpenAI makes them: a prefix that says of what, and something random."""
    return f"{prefix}demo{secrets.token_hex(8)}"


def now() -> int:
    """The time in Unix seconds, as OpenAI's objects tell it."""
    return int(time.time())


class RefusedError(Exception):
    """A request that OpenAI would refuse, or one that the demo server cannot serve."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        return error(str(self), INVALID, self.code, self.param)


def error(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
