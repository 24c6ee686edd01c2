"""How the console reaches AWS: the session, who asks, and what its errors say to a person.

boto3 takes longer to load than everything else here, so it is loaded at the first call and never for a `--help`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

_LOCAL = "or for the local stack: source .local/env"
_REMEDIES = {
    "AccessDenied": "allow it to the role that you ask with, or name another account with --profile",
    "Unauthorized": "allow it to the role that you ask with, or name another account with --profile",
    "Expired": "sign in again, so that your credentials are new",
    "Token": "correct your credentials, or name an account with --profile",
    "Signature": "correct your credentials and this machine's clock",
    "Throttl": "try again in a minute",
    "Exceeded": "try again in a minute",
    "Internal": "try again in a minute",
    "Unavailable": "try again in a minute",
}
"""By a word in the code of a refusal."""
_ANOTHER = "see that --stack-name, --profile and --region name what you mean"
_PLACE = "name the stack with --stack-name, and its account and Region with --profile and --region."


def session(environ: Mapping[str, str]) -> Any:
    """boto3's session: the profile and the Region of the environment, or of the AWS settings."""
    import boto3  # noqa: PLC0415

    # Keys in the environment come before a profile, as everywhere in AWS; `--profile` has taken them away.
    profile = None if environ.get("AWS_ACCESS_KEY_ID") else environ.get("AWS_PROFILE")
    return boto3.Session(profile_name=profile or None, region_name=environ.get("AWS_REGION") or None)


def cloudwatch_client(environ: Mapping[str, str]) -> "CloudWatchClient":
    """A client for the Region of the environment, or of the AWS settings. Raises botocore's errors."""
    return session(environ).client("cloudwatch")


def emulator(environ: Mapping[str, str]) -> str | None:
    """The address of an AWS on this machine, such as that of `make run`, where the environment names one."""
    address = environ.get("AWS_ENDPOINT_URL", "")
    is_here = urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
    return address if is_here else None


def who_asks(environ: Mapping[str, str]) -> str:
    """The account and the Region that the session reaches, as text. Raises NoCredentialsError and NoRegionError."""
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import (  # noqa: PLC0415
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        NoRegionError,
    )

    aws = session(environ)
    hasty = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
    try:
        account = aws.client("sts", config=hasty).get_caller_identity()["Account"]
    except (NoCredentialsError, NoRegionError):
        raise
    except (BotoCoreError, ClientError):
        account = "that cannot be asked for"
    where = emulator(environ)
    return f"Account {account}, Region {aws.region_name}" + (f", at {where}" if where else "")


def problem_of(error: Exception) -> str | None:
    """What an error of botocore says to a person, with a remedy; None for every other error."""
    from botocore.exceptions import (  # noqa: PLC0415
        BotoCoreError,
        ClientError,
        EndpointConnectionError,
        NoCredentialsError,
        NoRegionError,
        ProfileNotFound,
    )

    match error:
        case NoCredentialsError():
            return f"There are no AWS credentials. Remedy: name a profile with --profile, {_LOCAL}"
        case NoRegionError():
            return f"No AWS Region is set. Remedy: name one with --region, or set AWS_REGION, {_LOCAL}"
        case ProfileNotFound():
            return f"{error}. Remedy: name one of those in ~/.aws/config with --profile or AWS_PROFILE."
        case EndpointConnectionError():
            return f"{error}. Remedy: start the local stack (`make run`), or correct AWS_ENDPOINT_URL and the Region."
        case ClientError():
            return refused(error.operation_name, error.response.get("Error", {}))
        case BotoCoreError():
            return f"AWS could not be asked: {str(error).rstrip('.')}. Remedy: try again in a minute."
        case _:
            return None


def refused(operation: str, about: Mapping[str, Any]) -> str:
    """What a refusal of AWS says to a person. `about` has its `Code` and `Message`."""
    code = str(about.get("Code") or "no code")
    said = str(about.get("Message") or "it does not say why").rstrip(".")
    if code == "ResourceNotFoundException":
        there_is_none = "There is no such table or other resource in this account and Region"
        return f"{there_is_none} ({operation}: {said}). Remedy: {_PLACE}"
    remedy = next((each for word, each in _REMEDIES.items() if word in code), _ANOTHER)
    return f"AWS refuses {operation}: {said} ({code}). Remedy: {remedy}."
