"""Reads `openai_servers.yaml`: the upstream servers, in the form `{name: {url, token, model}}`, and their `options`.

A pool, `{name: {pool: {member: weight}}}`, stands for several of them: a `Server` without an address.
Its one rule: a file with any fault is refused whole, with the file, the server, the key and the remedy.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from openai_proxy.servers.option_error import OptionError
from openai_proxy.servers.options import OPTIONS, Breaker, Caching, Timers, read_options, weights_of
from openai_proxy.servers.sign_in import BEARER, REGION, Auth, auth_at
from openai_proxy.yaml_files import YamlFileError, plain_values, read_text

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEYS = ("url", "token", "model")
_KEYS_OF_POOL = ("pool", "model", "fallbacks")
_REMEDIES = {
    "url": "give the base of the OpenAI API, such as https://api.openai.com/v1",
    "token": "write ${NAME}, secretsmanager:<id>[#key] or ssm:<name>",
}
_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ServersFileError(ValueError):
    """The servers file cannot be used. The message names file, server, key and remedy."""


class TokenReference(NamedTuple):
    """Where a server's token is found. `name` is the token itself for a literal; it never shows in a repr."""

    kind: Literal["literal", "environment", "secretsmanager", "ssm"]
    name: str
    json_key: str | None = None

    def __repr__(self) -> str:
        return f"TokenReference({self.kind})" if self.kind == "literal" else f"TokenReference({self.kind}:{self.name})"


_NO_TOKEN = TokenReference("literal", "")


class Server(NamedTuple):
    """One upstream server. `url` has no trailing slash; `model` is the default for requests that name none, or ""."""

    name: str
    url: str
    token: TokenReference
    model: str
    retries: int = 1
    """How often a call that failed for now is repeated."""
    fallbacks: tuple[str, ...] = ()
    """Servers that are asked instead, in this order, when this one cannot answer."""
    aliases: Mapping[str, str] = {}
    """Names that clients may use, and the server's own names for them."""
    timeouts: Timers = Timers()
    breaker: Breaker = Breaker()
    cache: Caching | None = None
    """Whether and how its answers are kept in the response cache; a client key's own policy goes before it."""
    include_usage: bool = True
    """Whether a streamed chat is asked for its usage with `stream_options`, where the client does not ask itself."""
    auth: Auth = BEARER
    """How its token is sent, or that AWS signs in its place."""
    query: str = ""
    """Parameters that every call has, encoded."""
    headers: Mapping[str, str] = {}
    """Headers that every call has, by their names in lower case; they go before a client's own."""
    resumable: bool = False
    """Whether its streams can be read again, where neither the client nor its key says so."""
    on_disconnect: str = "finish"
    """Whether those go on when nobody is there to read them: `finish`, or `stop`."""
    pool: Mapping[str, int] = {}
    """The servers that calls are spread over, and their weights. It has neither address nor token of its own then."""

    @property
    def is_loopback(self) -> bool:
        """Whether the server runs beside the proxy: there plain HTTP and a token in the file do no harm."""
        return urlsplit(self.url).hostname in _LOOPBACK


def load_servers(path: Path, region: str = REGION) -> dict[str, Server]:
    """Read and check the file at `path`. `region` is the stack's own, where it is known. Raises ServersFileError."""
    return parse_servers(servers_text(path), str(path), region)


def servers_text(path: Path) -> str:
    """The text of the file at `path`, which is not checked. Raises ServersFileError."""
    try:
        return read_text(path)
    except YamlFileError as fault:
        raise _file_fault(str(path), fault) from fault


def parse_servers(text: str, file: str = "openai_servers.yaml", region: str = REGION) -> dict[str, Server]:
    """Check the text of a servers file, for a stack in `region`. Raises ServersFileError."""
    try:
        document = plain_values(text)
    except YamlFileError as fault:
        raise _file_fault(file, fault) from fault
    if not isinstance(document, dict) or not document:
        raise ServersFileError(f"{file}: lists no server. Remedy: write `name: {{url: …, token: …, model: …}}`.")
    entries: dict[str, Any] = document  # pyright: ignore[reportUnknownVariableType]
    servers = {name: _server(file, name, entry, region) for name, entry in entries.items()}
    for server in servers.values():
        for key, named in (("pool", server.pool), ("fallbacks", server.fallbacks)):
            if problem := _problem_of(named, servers):
                raise ServersFileError(f"{file}: server '{server.name}', key '{key}': {problem}.")
    return servers


def _problem_of(named: Iterable[str], servers: Mapping[str, Server]) -> str:
    """What is wrong with a list of other servers, with its remedy; "" if nothing is."""
    for name in named:
        if name not in servers:
            return f"no server '{name}'. Remedy: name one that the file lists"
        if servers[name].pool:
            return f"'{name}' is a pool. Remedy: name its members"
    return ""


def _file_fault(file: str, fault: YamlFileError) -> ServersFileError:
    key = f" '{fault.name}'" if fault.name else ""
    return ServersFileError(f"{file}:{key} {fault.problem}. Remedy: {fault.remedy}.")


def warnings_of(servers: Mapping[str, Server], file: str = "openai_servers.yaml") -> list[str]:
    """What is allowed but should be known: a token in the file, plain HTTP over a network."""
    found: list[str] = []
    for server in servers.values():
        if server.token.kind == "literal" and server.token.name and not server.is_loopback:
            remedy = "Remedy: use ${NAME}, secretsmanager:<id> or ssm:<name>."
            found.append(f"{file}: server '{server.name}', key 'token': the token stands in the file. {remedy}")
        if server.url.startswith("http:") and not server.is_loopback:
            found.append(f"{file}: server '{server.name}', key 'url': plain HTTP shows the token. Remedy: use https.")
    return found


def _server(file: str, name: str, entry: Any, region: str) -> Server:
    def fault(key: str, problem: str, remedy: str) -> ServersFileError:
        return ServersFileError(f"{file}: server '{name}', key '{key}': {problem}. Remedy: {remedy}.")

    if not _NAME.fullmatch(name) or name == "v1":
        raise ServersFileError(
            f"{file}: server '{name}': not a usable name. Remedy: use lower-case letters, digits, '-', '_'; not 'v1'."
        )
    if not isinstance(entry, dict):
        raise ServersFileError(f"{file}: server '{name}': has no settings. Remedy: give it url, token and model.")
    values: dict[str, Any] = entry  # pyright: ignore[reportUnknownVariableType]
    try:
        options = read_options({key: value for key, value in values.items() if key in OPTIONS})
        if name in options.get("fallbacks", ()):
            raise OptionError("fallbacks", "names the server itself", "name other servers")
        if "pool" in values:
            return _pool(name, values, options.get("fallbacks", ()))
        auth = options.get("auth", BEARER)
        _check_keys(values, ("url", "model") if auth.is_aws else _KEYS)
        url = _read("url", _url, values).replace(REGION, region)
        token = _NO_TOKEN if auth.is_aws else _read("token", token_reference, values)
        options["auth"] = auth_at(auth, url, region)
    except OptionError as error:
        raise fault(error.key, error.problem, error.remedy) from error
    return Server(name, url, token, values["model"], **options)


def _pool(name: str, values: Mapping[str, Any], fallbacks: tuple[str, ...]) -> Server:
    for key in values:
        if key not in _KEYS_OF_POOL:
            raise OptionError(key, "stands beside `pool`", "give it to the members, or remove it")
    weights, model = weights_of(values["pool"]), values.get("model", "")
    if name in weights:
        raise OptionError("pool", "names the pool itself", "name other servers")
    if not isinstance(model, str):
        raise OptionError("model", "not a text", "write one quoted text, or leave it out")
    if both := weights.keys() & fallbacks:
        raise OptionError("fallbacks", f"'{min(both)}' is a member already", "name servers that are no members")
    return Server(name, "", _NO_TOKEN, model, fallbacks=fallbacks, pool=weights)


def _check_keys(values: Mapping[str, Any], needed: Sequence[str]) -> None:
    for key in values:
        if key not in _KEYS + OPTIONS:
            raise OptionError(key, "unknown key", f"use only {', '.join(_KEYS + OPTIONS)}")
        if key in _KEYS and key not in needed:
            raise OptionError(key, "stands beside `auth: aws`, which needs none", "remove one of them")
    for key in needed:
        if key not in values:
            added = f"add '{key}:'" + (' ("" when there is no default)' if key == "model" else "")
            raise OptionError(key, "missing", added)
        if not isinstance(values[key], str):
            raise OptionError(key, "not a text", 'write one quoted text ("" for none)')


Value = TypeVar("Value")


def _read(key: str, read: Callable[[str], Value], values: Mapping[str, str]) -> Value:
    try:
        return read(values[key])
    except ValueError as error:
        raise OptionError(key, str(error), _REMEDIES[key]) from error


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http(s) address")
    if parts.username is not None or parts.query or parts.fragment or any(c.isspace() for c in text):
        raise ValueError("has user, query, fragment or white space")
    _ = parts.port  # raises ValueError when it is no port number
    if re.search("[{}]", text.replace(REGION, "")):
        raise ValueError(f"has braces; only {REGION} stands for something")
    return text.rstrip("/")


def token_reference(text: str) -> TokenReference:
    """Read the `token` of a server. Raises ValueError for a reference that names nothing."""
    environment = _ENVIRONMENT.fullmatch(text)
    if environment:
        return TokenReference("environment", environment[1])
    if text.startswith("${"):
        raise ValueError("not the name of an environment variable")
    if text.startswith("secretsmanager:"):
        secret, _, json_key = text.removeprefix("secretsmanager:").partition("#")
        if not secret:
            raise ValueError("names no secret")
        return TokenReference("secretsmanager", secret, json_key or None)
    if text.startswith("ssm:"):
        name = text.removeprefix("ssm:")
        if not name:
            raise ValueError("names no parameter")
        return TokenReference("ssm", name)
    if any(ord(character) < 33 or ord(character) > 126 for character in text):
        raise ValueError("holds characters that no HTTP header can carry")
    return TokenReference("literal", text)
