"""Whether servers answer: each is asked for its list of models, with its own sign-in or through the deployed proxy."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
from openai_proxy.servers import Server

from console.errors import ConsoleError
from console.servers.sign_in import NoSignInError, headers_for

_SECONDS = 15.0
_AT_ONCE = 16
_LONGEST_REMEDY = 200
TAG = "command=servers-check"
"""The tag of a check through a stack in the ledger: it uses the key of a client, but the client did not ask."""

# What the proxy says of a server, in `code` of an error: is it reached, has it let the proxy in, and what helps.
_BY_CODE: Mapping[str, tuple[bool | None, bool | None, str]] = {
    "server_not_configured": (None, False, "give the stack its token, or BedrockEnabled=true"),
    "token_unavailable": (None, False, "let the proxy's role read its token"),
    "upstream_authentication_failed": (True, False, "give the stack a token that the server takes"),
    "upstream_unreachable": (False, None, "correct its url: nothing answers there"),
    "upstream_timeout": (False, None, "correct its url, or ask its owner: it is silent"),
    "upstream_unavailable": (False, None, "try again in a minute: it has failed several times in a row"),
    "server_not_allowed": (None, None, "use a client key that may use it"),
    "upstream_redirect": (True, None, "correct its url: it redirects"),
    "upstream_no_answer": (True, None, "correct its url: what answers there lists no models"),
    "upstream_broken_off": (True, None, "ask its owner: it breaks off"),
    "unknown_server": (None, None, "deploy this file: the stack does not know the server"),
}


class Look(NamedTuple):
    """What came of asking one server. None is for what nobody could see. `seconds` until the whole answer was there."""

    server: str
    reachable: bool | None = None
    signed_in: bool | None = None
    models: int | None = None
    seconds: float | None = None
    remedy: str = ""

    @property
    def is_good(self) -> bool:
        """Whether requests of the server have a chance."""
        return self.reachable is True and self.signed_in is not False


class Stack(NamedTuple):
    """A deployed proxy: its base URL and a client key of it."""

    url: str
    key: str


def looks_at(servers: Iterable[Server], environ: Mapping[str, str], aws: Callable[[], Any]) -> list[Look]:
    """Ask each of `servers`, all at once."""

    def look(server: Server) -> Look:
        url = f"{server.url}/models" + (f"?{server.query}" if server.query else "")
        try:
            headers = headers_for(server, url, environ, aws)
        except NoSignInError as error:
            return Look(server.name, signed_in=False, remedy=str(error))
        return _asked(server.name, url, headers, _look_of_server)

    return _all_at_once(look, servers)


def looks_through(stack: Stack, servers: Iterable[Server]) -> list[Look]:
    """Ask a deployed proxy about each of `servers`, all at once. Raises ConsoleError for a key that it refuses."""

    def look(server: Server) -> Look:
        url = f"{stack.url.rstrip('/')}/{server.name}/v1/models"
        headers = {"authorization": f"Bearer {stack.key}", "x-tags": TAG}
        return _asked(server.name, url, headers, _look_of_proxy)

    return _all_at_once(look, servers)


def _all_at_once(look: Callable[[Server], Look], servers: Iterable[Server]) -> list[Look]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(look, servers))


def _asked(
    server: str, url: str, headers: Mapping[str, str], look_of: Callable[[str, httpx.Response, Any], Look]
) -> Look:
    try:
        answer = httpx.get(url, headers=dict(headers), timeout=_SECONDS)
    except httpx.TimeoutException:
        return Look(server, reachable=False, remedy=f"correct its url, or ask its owner: silent for {_SECONDS:.0f} s")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        return Look(server, reachable=False, remedy=f"correct its url: {str(error)[:_LONGEST_REMEDY]}")
    try:
        document = answer.json()
    except (ValueError, RecursionError):
        document = None
    found = look_of(server, answer, document)
    return found._replace(seconds=answer.elapsed.total_seconds())


def _look_of_server(server: str, answer: httpx.Response, document: Any) -> Look:
    status = answer.status_code
    if answer.is_success:
        return _look_of_list(server, document)
    if status in (401, 403):
        return Look(server, reachable=True, signed_in=False, remedy=f"give it a token or role that it takes ({status})")
    if status in (404, 405, 501):  # Bedrock's runtime and some gateways list none
        return Look(server, reachable=True, remedy=f"none, if it lists no models ({status}); else correct its url")
    if status < 500:
        return Look(server, reachable=True, remedy=f"read what it says to this: {status} {_said(document)}".strip())
    return Look(server, reachable=False, remedy=f"ask its owner: it answers {status}")


def _look_of_proxy(server: str, answer: httpx.Response, document: Any) -> Look:
    code = _object(_object(document).get("error")).get("code")
    if code == "invalid_api_key":
        raise ConsoleError("The stack refuses the client key. Remedy: set OPENAI_API_KEY to one of its client keys.")
    if known := _BY_CODE.get(str(code)):
        return Look(server, known[0], known[1], remedy=known[2])
    return _look_of_server(server, answer, document)


def _look_of_list(server: str, document: Any) -> Look:
    fields = _object(document)
    listed: Any = fields.get("data", fields.get("models")) if fields else document
    if isinstance(listed, list):
        return Look(server, reachable=True, signed_in=True, models=len(listed))  # pyright: ignore[reportUnknownArgumentType]
    return Look(server, reachable=True, remedy="correct its url: what answers there lists no models")


def _said(document: Any) -> str:
    fields = _object(document)
    error = fields.get("error", fields)
    message = _object(error).get("message", error)
    return message[:_LONGEST_REMEDY] if isinstance(message, str) else ""


def _object(value: Any) -> dict[str, Any]:
    """The object that some JSON is; an empty one for everything else."""
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
