"""Signing in to a server from this machine, as the proxy does: by the token of the file, or by a signature."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError
from openai_proxy.client_keys import is_well_formed
from openai_proxy.servers import Server

_ALSO_CLIENT_KEY = "OPENAI_API_KEY"
"""The variable that holds OpenAI's token, or a client key where somebody uses the proxy from here."""


class NoSignInError(Exception):
    """What it takes to sign in is not there. The message is the remedy, and holds no token."""


def headers_for(server: Server, url: str, environ: Mapping[str, str], aws: Callable[[], Any]) -> dict[str, str]:
    """The headers of a GET of `url`. `aws` gives boto3's session. Raises NoSignInError."""
    try:
        if server.auth.is_aws:
            return {**server.headers, **_signature(server, url, aws())}
        token = _token(server, environ, aws)
    except (BotoCoreError, ClientError) as error:
        raise NoSignInError(f"AWS does not say it: {error}") from error
    if not (token.isascii() and token.isprintable()):
        raise NoSignInError("write the token without line ends and special characters")
    return {**server.headers, **({server.auth.header: server.auth.prefix + token} if token else {})}


def _signature(server: Server, url: str, session: Any) -> dict[str, str]:
    credentials = session.get_credentials()
    if credentials is None:
        raise NoSignInError("set AWS_PROFILE: there are no AWS credentials to sign with")
    request: Any = AWSRequest("GET", url)
    SigV4Auth(credentials, server.auth.service, server.auth.region).add_auth(request)
    return dict(request.headers)


def _token(server: Server, environ: Mapping[str, str], aws: Callable[[], Any]) -> str:
    token = server.token
    match token.kind:
        case "literal":
            return token.name
        case "environment":
            found = environ.get(token.name, "")
            if token.name == _ALSO_CLIENT_KEY and is_well_formed(found):
                raise NoSignInError(f"set {token.name} to the server's token: a client key stays here")
            if found:
                return found
            raise NoSignInError(f"set {token.name} here; on AWS it is a key of the stack's ProviderTokensSecret")
        case "ssm":
            found = aws().client("ssm").get_parameter(Name=token.name, WithDecryption=True)
            return found["Parameter"]["Value"]
        case "secretsmanager":
            secret = aws().client("secretsmanager").get_secret_value(SecretId=token.name).get("SecretString", "")
            return _member(secret, token.json_key) if token.json_key else secret


def _member(secret: str, key: str) -> str:
    try:
        return str(json.loads(secret)[key])
    except (ValueError, KeyError, TypeError) as error:
        raise NoSignInError(f"add the key {key} to the secret, which has to be a JSON object") from error
