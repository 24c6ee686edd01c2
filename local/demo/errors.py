"""How the demo server refuses: OpenAI's error object, and the exception that becomes one. Pure."""

from typing import Any

INVALID = "invalid_request_error"


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
