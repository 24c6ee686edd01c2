"""What a person gets from the local stack: the servers file with the demo server, the file to source, the text. Pure.

Its one rule: everything that is printed works when it is pasted.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from openai_proxy.client_keys import is_well_formed
from openai_proxy.servers import parse_servers

from local.issuer.people import CLIENT_ID, PEOPLE
from local.stack.settings import HOST, REGION, ROOT, Settings

DEMO_SERVER = "demo"
_NOBODY = "http://127.0.0.1:9"

_TOLD = {"StreamWebhookUrl": "answers that nobody waited for", "AlarmWebhookUrl": "throttles"}
"""What each webhook is told, by the parameter that names its address."""


def servers_file(shipped: str, demo_url: str, demo_token: str) -> str:
    """The servers file of the local stack: `shipped` and the demo server. Raises ServersFileError."""
    if DEMO_SERVER in parse_servers(shipped):
        return shipped
    return (
        f"{shipped.rstrip()}\n\n# The demo server of the local stack.\n"
        f"{DEMO_SERVER}:\n  url: {demo_url}\n  token: {demo_token}\n  model: demo\n"
        "  breaker: {failures: 0}  # it fails when it is asked to\n"
    )


def provider_tokens(servers_text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The provider tokens found in the environment, by the names that the servers file refers to.

    A client key is not taken for one: `.local/env` exports it as OPENAI_API_KEY, and it must not be sent to OpenAI.
    """
    references = [server.token for server in parse_servers(servers_text).values()]
    names = {reference.name for reference in references if reference.kind == "environment"}
    return {name: environ[name] for name in sorted(names) if environ.get(name) and not is_well_formed(environ[name])}


def usable_servers(servers_text: str, tokens: Mapping[str, str]) -> list[str]:
    """The servers that can be called: those that need no token or have theirs. The demo server is not among them."""
    servers = parse_servers(servers_text).values()
    return [each.name for each in servers if each.token.kind == "environment" and each.token.name in tokens]


def rest_api_url(output: str, endpoint: str) -> str:
    """The REST API's address in MiniStack, from the stack's RestApiUrl (`https://<id>.execute-api…/<stage>/`)."""
    parts = urlsplit(output)
    return f"{endpoint}/_aws/execute-api/{parts.netloc.partition('.')[0]}{parts.path}"


def environment_file(settings: Settings, outputs: Mapping[str, str], key: str, secret: str = "") -> str:
    """The text of the file to source: SDKs, the AWS CLI and boto3 then work against this stack.

    `secret` is what messages to a webhook are signed with, where there is one.
    """
    url = f"http://{HOST}:{settings.port}/"
    variables = {
        "OPENAI_BASE_URL": f"{url}{DEMO_SERVER}/v1",
        "OPENAI_API_KEY": key,
        "FUNCTION_URL": url,
        **({"REST_API_URL": rest_api_url(outputs["RestApiUrl"], settings.endpoint)} if "RestApiUrl" in outputs else {}),
        "AWS_ENDPOINT_URL": settings.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "STACK_NAME": settings.stack_name,
        "PROXY_LOG": str(settings.log("proxy")),
        "BUS_NAME": outputs["BusName"],
        **({"BUS_ARCHIVE": outputs["BusArchive"]} if "BusArchive" in outputs else {}),
        "KEYS_TABLE": outputs["KeysTable"],
        "IDENTITY_FILE": settings.chosen.get("IdentityFile", str(settings.identity_file)),
        "GUARDS_FILE": settings.chosen.get("GuardsFile", str(settings.guards_file)),
        "DEPLOYED_SERVERS_FILE": settings.chosen.get("ServersFile", str(settings.servers_file)),
        "LIMITS_TABLE": outputs["LimitsTable"],
        "COSTS_TABLE": outputs["CostsTable"],
        "CACHE_TABLE": outputs["CacheTable"],
        "CACHE_BUCKET": outputs["CacheBucket"],
        "STREAMS_TABLE": outputs["StreamsTable"],
        **({"STREAM_WEBHOOK_SECRET": secret} if secret else {}),
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    # Without this, a session token or profile of a real account would be sent to MiniStack with these keys.
    unset = "unset AWS_PROFILE AWS_SESSION_TOKEN"
    return "\n".join(["# The local stack, while it runs.", *lines, _on_the_path(settings), unset, ""])


def _on_the_path(settings: Settings) -> str:
    """Puts `openai-proxy` and the `aws` of this stack before others, once however often the file is sourced."""
    folders = f"{settings.tools}:{ROOT / '.venv/bin'}"
    return f'case ":$PATH:" in *:{shlex.quote(folders)}:*) ;; *) export PATH={shlex.quote(folders)}:"$PATH" ;; esac'


def aws_command(settings: Settings) -> str:
    """The text of the stack's own `aws`, which calls the one of this machine.

    Version 1 of the AWS CLI sends calls of SQS to AWS whatever AWS_ENDPOINT_URL says. So the address is an option here,
    and calls to any other address go to a proxy that does not exist.
    """
    return f"""#!/bin/sh
# The AWS CLI of this machine, for the local stack alone: nothing that it does reaches AWS.
here={shlex.quote(str(settings.tools))} found=
IFS=:
for folder in $PATH; do
  if [ "$folder" != "$here" ] && [ -x "$folder/aws" ]; then found=$folder/aws; break; fi
done
[ -n "$found" ] || {{ echo "There is no AWS CLI on this machine; openai-proxy needs none." >&2; exit 127; }}
export HTTPS_PROXY={_NOBODY} https_proxy={_NOBODY} NO_PROXY={HOST},localhost no_proxy={HOST},localhost
exec "$found" --endpoint-url {settings.endpoint} "$@"
"""


def greeting(settings: Settings, outputs: Mapping[str, str], key: str, real_servers: list[str]) -> str:
    """What is printed when everything runs."""
    url = f"http://{HOST}:{settings.port}"
    env = _shown(settings.env_file)
    real = (
        ", ".join(real_servers) if real_servers else "none: no token found (export OPENAI_API_KEY=… before `make run`)"
    )
    rest = rest_api_url(outputs["RestApiUrl"], settings.endpoint) if "RestApiUrl" in outputs else "switched off"
    message = '{"model":"demo","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
    headers = f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"
    curl = f"curl -N {url}/demo/v1/chat/completions {headers} -d '{message}'"
    return f"""
The proxy runs.

  URL    {url}/{DEMO_SERVER}/v1   (the demo server: speaks the OpenAI API, is no model)
  Key    {key}

In a browser: {url}/ is the playground; paste the key there{_or_sign_in(settings)}.

Or paste into another terminal; the words appear one by one:

  {curl}

What it cost, a few seconds later:

  . {env}; openai-proxy costs

{_webhooks(settings)}{_token(settings)}SDKs and the AWS CLI work against this after `. {env}` too.
REST API   {rest}
           (whole answers only: the embedded AWS does not stream)
Providers  {real}
Logs       {_shown(settings.folder / "logs")}

Ctrl-C stops everything{"; the state is kept" if settings.keep_state else " and forgets it (KEEP_STATE=1 keeps it)"}.
"""


def _or_sign_in(settings: Settings) -> str:
    return f", or sign in as {' or '.join(each.name for each in PEOPLE)}" if settings.issuer else ""


def _webhooks(settings: Settings) -> str:
    """The lines about webhooks: which address is told of what."""
    told = [f"{url} is told of {_TOLD[name]}.\n" for name, url in settings.webhooks.items()]
    return "".join([*told, "\n"]) if told else ""


def _token(settings: Settings) -> str:
    """How to get an access token."""
    if settings.issuer is None:
        return ""
    people = ", ".join(f"{each.user_name} ({each.tier})" for each in PEOPLE)
    form = " ".join(f"-d {name}" for name in ("grant_type=password", f"client_id={CLIENT_ID}"))
    user = PEOPLE[0].user_name
    return f"""A token of somebody who signs in, in the place of the key ({people}; the password is the name):

  curl -s {settings.issuer}/token {form} -d username={user} -d password={user}

"""


def _shown(path: Path) -> str:
    """`path` as a person types it in the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
