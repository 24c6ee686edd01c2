"""How the console reaches AWS: the session, and what its errors say to a person.

boto3 takes longer to load than everything else here, so it is loaded at the first call and never for a `--help`.
"""

from collections.abc import Mapping
from typing import Any


def session(environ: Mapping[str, str]) -> Any:
    """boto3's session in the Region of the environment, or of the AWS settings."""
    import boto3  # noqa: PLC0415

    return boto3.Session(region_name=environ.get("AWS_REGION"))  # boto3 itself does not read this variable


def problem_of(error: Exception) -> str | None:
    """What an error of botocore says to a person, with a remedy; None for every other error."""
    from botocore.exceptions import (  # noqa: PLC0415
        BotoCoreError,
        ClientError,
        EndpointConnectionError,
        NoCredentialsError,
        NoRegionError,
    )

    match error:
        case NoCredentialsError():
            return "There are no AWS credentials. Remedy: set AWS_PROFILE, or for the local stack: source .local/env"
        case NoRegionError():
            return "No AWS region is set. Remedy: set AWS_REGION, or for the local stack: source .local/env"
        case EndpointConnectionError():
            return f"{error} Is AWS_ENDPOINT_URL right, and the local stack running?"
        case ClientError() if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
            return f"The table does not exist in this account and region ({error})."
        case BotoCoreError() | ClientError():
            return str(error)
        case _:
            return None
