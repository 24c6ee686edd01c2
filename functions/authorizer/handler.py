"""Composition root of the authorizer: invoked by API Gateway, and by the proxy for the function URL."""
# ruff: noqa: E402 - the first line of this module's work comes before what is loaded

import gc

# objects made in INIT live as long as the sandbox; searching them for garbage would take a tenth of a cold start
gc.disable()

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import openai_proxy
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.identity import IdentityFileError, load_identity
from openai_proxy.key_context import ClientKey
from openai_proxy.tracing.handlers import traced

from authorizer.authorizer import Authorizer, Held, OfToken
from authorizer.keys_table import KeysTable
from authorizer.refusal import KeysUnavailableError

_IS_LOCAL = bool(os.environ.get("AWS_ENDPOINT_URL"))

# A client waits for the answer, so no answer is better than a late one. Two tries end before the proxy gives up, so
# this function's log says what is wrong. An emulator is slower, and gets more time.
_SECONDS = 5.0 if _IS_LOCAL else 1.0
_CONFIG = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"mode": "standard", "total_max_attempts": 2})

_LAYER = Path(openai_proxy.__file__).parents[1]
"""Where the layer was unpacked: a relative IDENTITY_FILE is one that it carries."""


def _users(keys: KeysTable, logger: Logger) -> OfToken | None:
    """What checks access tokens; None where the identity file names no issuer.

    If the file cannot be used, no token is let in; client keys go on working.
    """
    try:
        identity = load_identity(_LAYER / os.environ.get("IDENTITY_FILE", "identity.yaml"), allow_loopback=_IS_LOCAL)
        if identity is None:
            return None
        # Imported here because the library that checks signatures takes longer to load than all else, and most stacks
        # have no issuer.
        from authorizer.https_get import HttpsGet  # noqa: PLC0415
        from authorizer.pseudonyms import pseudonyms_of  # noqa: PLC0415
        from authorizer.users import Users, keys_of_issuers  # noqa: PLC0415
    except (IdentityFileError, ImportError) as error:
        logger.error(  # noqa: TRY400 - the reason says all
            "The identity file cannot be used: no access token is taken", reason=str(error)
        )
        return _unusable
    pseudonyms = pseudonyms_of(lambda: _client("secretsmanager"), os.environ.get("PSEUDONYM_SECRET"))
    users = Users(identity, keys, keys_of_issuers(identity, HttpsGet(), logger), pseudonyms)
    users.prefetch()
    return users


def _guards(keys: KeysTable) -> Held | None:
    """What applies the acts of guards; None where guards are off."""
    if os.environ.get("GUARDS") != "on":
        return None
    from authorizer.guards import Guards  # noqa: PLC0415 - most stacks have none

    return Guards(keys.find)


def _unusable(_token: str) -> ClientKey:
    raise KeysUnavailableError("the identity file cannot be used")


def _client(service: Any) -> Any:
    return boto3.client(service, config=_CONFIG)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - stubs of all services


# Built while the sandbox initialises, which has the full CPU; an invocation has only a share of one.
_keys = KeysTable(_client("dynamodb"), os.environ["KEYS_TABLE"])
_logger = Logger(service="authorizer", level=os.environ.get("LOG_LEVEL", "INFO"))
_authorizer = Authorizer(_keys, _logger, users=_users(_keys, _logger), guards=_guards(_keys))

gc.freeze()  # an invocation, which has a share of a CPU, does not search them either
gc.enable()


@traced("authorizer", os.environ)
def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Answer one REQUEST authorizer event."""
    return _authorizer(event)
