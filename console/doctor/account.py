"""The account that is looked at: one way to ask AWS, and one place that turns its refusals into findings.

Its one rule: what could not be read is said, with the permission that was missing, and never counts as well.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from console.doctor.findings import Finding

_DENIED = re.compile(
    r"access_?denied|not_?authori[sz]ed|unauthori[sz]ed|authorizationerror|forbidden|^403$", re.IGNORECASE
)
_NAMED = re.compile(r"not authorized to perform:? ?([a-z0-9-]+:[A-Za-z]+)")
_LONGEST = 200
_GONE = "CloudFormation does not make it again: delete the stack, whose keys and ledger stay, and deploy it anew"
_OF_AWS = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".api.aws",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
    ".hci.ic.gov",
)
"""What hosts of AWS end with, in all partitions. Every other endpoint is an emulator's."""
_IAM_PREFIXES = {"service-quotas": "servicequotas"}
"""Services whose name in IAM is not that of boto3."""


class NotAllowedError(Exception):
    """The caller may not read this. The message is the missing permission, such as `sqs:GetQueueAttributes`."""


class NotKnownError(Exception):
    """The emulator does not know this call."""


class NotThereError(Exception):
    """AWS knows no such resource."""


class NotReadError(Exception):
    """The call failed for another reason, which the message says."""


class Account(Protocol):
    """Where a stack is. `is_emulated` is whether it is an emulator's and not one of AWS."""

    @property
    def is_emulated(self) -> bool: ...

    def ask(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """What AWS answers. Raises the four errors of this module."""
        ...


Check = Callable[[], Iterable[Finding]]


class Aws:
    """An account as boto3 reaches it. A call waits for 10 seconds at the most, and is made twice if it fails."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._clients: dict[str, Any] = {}

    @property
    def region(self) -> str:
        return str(self._session.region_name)

    @property
    def is_emulated(self) -> bool:
        host = str(self._client("cloudformation").meta.endpoint_url).partition("://")[2].partition("/")[0]
        return not host.partition(":")[0].endswith(_OF_AWS)

    def ask(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """What AWS answers. Raises the four errors of this module, and NoCredentialsError or NoRegionError."""
        from botocore.exceptions import (  # noqa: PLC0415 - only a call needs it
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            NoRegionError,
        )

        try:
            return getattr(self._client(service), operation)(**parameters)
        except ClientError as error:
            raise refusal(error.response, permission_of(service, error.operation_name), self.is_emulated) from error
        except (NoCredentialsError, NoRegionError):
            raise
        except BotoCoreError as error:
            raise NotReadError(str(error)[:_LONGEST]) from error

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            from botocore.config import Config  # noqa: PLC0415 - boto3's modules are loaded with its first client

            hasty = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
            self._clients[service] = self._session.client(service, config=hasty)
        return self._clients[service]


def permission_of(service: str, operation: str) -> str:
    """The permission that an operation needs, as IAM writes it."""
    return f"{_IAM_PREFIXES.get(service, service)}:{operation}"


def refusal(response: Mapping[str, Any], permission: str, is_emulated: bool) -> Exception:
    """What an answer with an error means: one of the four errors of this module."""
    error = response.get("Error", {})
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    if _DENIED.search(code):
        named = _NAMED.search(message)
        return NotAllowedError(named[1] if named else permission)
    if re.search(r"notfound|nonexistent|doesnotexist|nosuch", code, re.IGNORECASE) or (
        code == "ValidationError" and "does not exist" in message
    ):
        return NotThereError(message[:_LONGEST])
    unknown = code.isdecimal() or re.search(r"unknownoperation|invalidaction|notimplemented|internal", code.lower())
    if is_emulated and unknown:
        return NotKnownError(permission)
    return NotReadError(f"{code}: {message}"[:_LONGEST])


def looked(area: str, subject: str, check: Check) -> Iterator[Finding]:
    """What `check` finds; one finding in the place of what it could not read."""
    try:
        yield from check()
    except NotAllowedError as error:
        remedy = f"allow {error} to the role that you ask with, or look with another AWS_PROFILE"
        yield Finding(area, subject, "unread", f"you may not: {error}", remedy)
    except NotKnownError:
        yield Finding(area, subject, "unknown", "this emulator does not know it")
    except NotThereError as error:
        yield Finding(area, subject, "todo", f"it was deleted by hand ({error})", _GONE)
    except NotReadError as error:
        yield Finding(area, subject, "unread", str(error), "try again; `aws sts get-caller-identity` says who asks")
