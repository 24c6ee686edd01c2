"""Whether servers have their tokens, keys are there and prices are new.

Its one rule: no token is shown, nor any part of one.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from openai_proxy.pricing.list_prices import PriceList
from openai_proxy.servers import Server

from console.doctor.account import NotThereError
from console.doctor.deployment import Deployment
from console.doctor.findings import Finding

AREA = "servers"
OLDEST_PRICES_DAYS = 90
"""Providers publish models with prices every few weeks."""


def servers_file_of(stack: Deployment, chosen: Path | None) -> Path:
    """The servers file to look at: the one that is named, that of a local stack, else that of this folder."""
    deployed = Path(stack.parameters.get("ServersFile", ""))
    return chosen or (deployed if deployed.is_absolute() and deployed.is_file() else Path("openai_servers.yaml"))


def secret_findings(stack: Deployment, servers: Mapping[str, Server], file: Path) -> Iterator[Finding]:
    """The stack's own secret, and which servers have no token in it."""
    needed = {name: server.token.name for name, server in servers.items() if _uses_secret(server)}
    secret = stack.outputs.get("ProviderTokensSecret", "")
    held = _tokens_in(_secret(stack, secret))
    put = f'aws secretsmanager put-secret-value --secret-id {secret} --secret-string \'{{"NAME":"token"}}\''
    if held is None:
        says = "it is no JSON object: no server finds its token"
        yield Finding("secrets", "provider tokens", "todo", says, f"{put}, with all tokens as one object")
        return
    missing = [name for name, variable in needed.items() if variable not in held]
    if missing:
        of_function = _variables_of_proxy(stack)
        missing = [name for name in missing if needed[name] not in of_function]
    yield Finding("secrets", "provider tokens", "ok", f"a JSON object; tokens with a value: {len(held)}")
    if missing:
        variables = ", ".join(sorted({needed[name] for name in missing}))
        remedy = f"{put} with {variables} beside those that it holds, or take the servers out of {file} and deploy"
        says = f"no token, so that clients get 503: {', '.join(missing)}"
        yield _without(stack, f"{len(missing)} of {len(servers)} servers", says, remedy)


def _uses_secret(server: Server) -> bool:
    return not server.pool and server.token.kind == "environment" and not server.auth.is_aws


def _variables_of_proxy(stack: Deployment) -> Mapping[str, str]:
    """The function's own variables, where a token is looked for first."""
    name = stack.outputs.get("ProxyFunctionName", "")
    function = stack.account.ask("lambda", "get_function_configuration", FunctionName=name)
    return function.get("Environment", {}).get("Variables", {})


def _without(stack: Deployment, subject: str, says: str, remedy: str) -> Finding:
    """The finding about a server without a token. It is no fault on a local stack, which has its demo server."""
    return Finding(AREA, subject, "note" if stack.account.is_emulated else "todo", says, remedy)


def own_token_findings(stack: Deployment, server: Server, file: Path) -> Iterator[Finding]:
    """A server whose token is a secret or a parameter of its own, or that AWS signs for."""
    token, prefix = server.token, stack.parameters.get("SecretsPrefix", "openai-proxy/")
    if server.auth.is_aws:
        if "bedrock" in server.auth.service and not stack.is_on("BedrockEnabled"):
            remedy = f"{stack.deploy_with('BedrockEnabled=true')}, or take it out of {file} and deploy"
            yield _without(stack, server.name, "BedrockEnabled is off, so that clients get 503", remedy)
        else:
            yield Finding(AREA, server.name, "ok", "signed by the proxy's role")
        return
    where = f"{token.kind}:{token.name}"
    if not _may_be_read(token.name, prefix):
        remedy = stack.deploy_with(f"SecretsPrefix={token.name.strip('/').partition('/')[0]}/")
        yield Finding(
            AREA, server.name, "todo", f"the proxy may read only what begins with {prefix}, not {where}", remedy
        )
        return
    try:
        is_there = _has_own_token(stack, server)
    except NotThereError:
        is_there = False
    if is_there:
        yield Finding(AREA, server.name, "ok", where)
    else:
        yield Finding(AREA, server.name, "todo", f"{where} has no value: clients get 503", _creation(server))


def _may_be_read(name: str, prefix: str) -> bool:
    """Whether the proxy's role may read a secret or a parameter of that name, or of that ARN."""
    return (
        name.rpartition(":")[2].removeprefix("parameter").lstrip("/").startswith(prefix) or f":secret:{prefix}" in name
    )


def _has_own_token(stack: Deployment, server: Server) -> bool:
    token = server.token
    if token.kind == "ssm":
        answer = stack.account.ask("ssm", "get_parameter", Name=token.name, WithDecryption=True)
        return bool(answer["Parameter"].get("Value", "").strip())
    text = _secret(stack, token.name)
    if token.json_key is None:
        return bool(text.strip())
    return token.json_key in (_tokens_in(text) or {})


def _creation(server: Server) -> str:
    token = server.token
    if token.kind == "ssm":
        return f"aws ssm put-parameter --name {token.name} --type SecureString --overwrite --value '...'"
    value = f'{{"{token.json_key}":"..."}}' if token.json_key else "..."
    return (
        f"aws secretsmanager create-secret --name {token.name} --secret-string '{value}' "
        "(put-secret-value --secret-id where it is there)"
    )


def own_tokens(servers: Mapping[str, Server]) -> list[Server]:
    """The servers whose token, or whose right to sign, is not in the stack's own secret."""
    return [
        server
        for server in servers.values()
        if not server.pool and (server.auth.is_aws or server.token.kind in ("secretsmanager", "ssm"))
    ]


def _secret(stack: Deployment, secret: str) -> str:
    return str(stack.account.ask("secretsmanager", "get_secret_value", SecretId=secret).get("SecretString", ""))


def _tokens_in(text: str) -> dict[str, Any] | None:
    """The tokens of a JSON object that have a value; None where the text is no such object.

    The dots of a command that was pasted as it stands are no value.
    """
    try:
        document: Any = json.loads(text)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    return {name: value for name, value in document.items() if isinstance(value, str) and value.strip(" .…")}  # pyright: ignore[reportUnknownVariableType]


def key_findings(stack: Deployment) -> Iterator[Finding]:
    """Whether there is a client key at all."""
    name = stack.outputs.get("KeysTable", "")
    table = stack.account.ask("dynamodb", "scan", TableName=name, Limit=1, Select="COUNT")
    if table.get("Count") or not stack.is_on("AuthorizationEnabled"):
        yield Finding("keys", "client keys", "ok", "there is one" if table.get("Count") else "none is needed")
    else:
        remedy = "openai-proxy keys create --client-id me --name 'My first key'"
        yield Finding("keys", "client keys", "todo", "there is none: every request is refused", remedy)


def price_findings(prices: PriceList, today: datetime) -> Iterator[Finding]:
    """The age of the list prices of this checkout: that of the newest price which holds by now."""
    newest = prices.newest_start(today)
    if newest is None:
        yield Finding(
            "prices", "list prices", "todo", "they have no dates", "openai-proxy prices refresh, then make deploy"
        )
        return
    days = (today - newest).days
    says = f"{prices.source} {prices.version}, the newest of {newest:%Y-%m-%d}, {days} days ago"
    if days > OLDEST_PRICES_DAYS:
        yield Finding("prices", "list prices", "todo", says, "openai-proxy prices refresh, then make deploy")
    else:
        yield Finding("prices", "list prices", "ok", says)
