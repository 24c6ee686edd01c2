"""`openai_servers.yaml`: the upstream servers, in exactly the form `{name: {url, token, model}}`.

Its one rule: a file with any fault is refused whole, with the file, the server, the key and the remedy.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEYS = ("url", "token", "model")
_OPTIONAL_KEYS = ("retries", "fallbacks")
_MOST_RETRIES = 5
DEFAULT_RETRIES = 2
_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ServersFileError(ValueError):
    """The servers file cannot be used. The message names file, server, key and remedy."""


@dataclass(frozen=True, slots=True)
class TokenReference:
    """Where a server's token is found. `name` is the token itself for a literal; it never shows in a repr."""

    kind: Literal["literal", "environment", "secretsmanager", "ssm"]
    name: str
    json_key: str | None = None

    def __repr__(self) -> str:
        return f"TokenReference({self.kind})" if self.kind == "literal" else f"TokenReference({self.kind}:{self.name})"


@dataclass(frozen=True, slots=True)
class Server:
    """One upstream server. `url` has no trailing slash; `model` is the default for requests that name none, or ""."""

    name: str
    url: str
    token: TokenReference
    model: str
    retries: int = DEFAULT_RETRIES
    """How often a call that failed for now is repeated."""
    fallbacks: tuple[str, ...] = ()
    """Servers that are asked instead, in this order, when this one cannot answer."""

    @property
    def is_loopback(self) -> bool:
        """Whether the server runs beside the proxy: there plain HTTP and a token in the file do no harm."""
        return urlsplit(self.url).hostname in _LOOPBACK


def load_servers(path: Path) -> dict[str, Server]:
    """Read and check the file at `path`. Raises ServersFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ServersFileError(f"{path}: cannot be read ({error}). Remedy: put the servers file there.") from error
    return parse_servers(text, str(path))


def parse_servers(text: str, file: str = "openai_servers.yaml") -> dict[str, Server]:
    """Check the text of a servers file. Raises ServersFileError."""
    try:
        document = _plain(yaml.compose(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise ServersFileError(f"{file}: is not valid YAML: {error}") from error
    except ValueError as error:
        raise ServersFileError(f"{file}: {error}") from error
    if not isinstance(document, dict) or not document:
        raise ServersFileError(f"{file}: lists no server. Remedy: write `name: {{url: …, token: …, model: …}}`.")
    entries: dict[str, Any] = document  # pyright: ignore[reportUnknownVariableType]
    servers = {name: _server(file, name, entry) for name, entry in entries.items()}
    for server in servers.values():
        for fallback in server.fallbacks:
            if fallback not in servers:
                remedy = "Remedy: name one that the file lists."
                raise ServersFileError(
                    f"{file}: server '{server.name}', key 'fallbacks': no server '{fallback}'. {remedy}"
                )
    return servers


def warnings_of(servers: Mapping[str, Server], file: str = "openai_servers.yaml") -> list[str]:
    """What is allowed but should be known: a token in the file, plain HTTP over a network."""
    found: list[str] = []
    for server in servers.values():
        if server.token.kind == "literal" and not server.is_loopback:
            remedy = "Remedy: use ${NAME}, secretsmanager:<id> or ssm:<name>."
            found.append(f"{file}: server '{server.name}', key 'token': the token stands in the file. {remedy}")
        if server.url.startswith("http:") and not server.is_loopback:
            found.append(f"{file}: server '{server.name}', key 'url': plain HTTP shows the token. Remedy: use https.")
    return found


def _plain(node: Any) -> Any:
    """A YAML node as dicts of strings. PyYAML keeps the last of two equal keys in silence; here that is a fault."""
    if isinstance(node, yaml.MappingNode):
        plain: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in plain:
                line = key_node.start_mark.line + 1
                raise ValueError(f"'{key}' stands there twice (again in line {line}). Remedy: remove one.")
            plain[key] = _plain(value_node)
        return plain
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.ScalarNode):
        is_null = node.tag.endswith(":null")
        return None if is_null else node.value
    return node


def _server(file: str, name: str, entry: Any) -> Server:
    def fault(key: str, problem: str, remedy: str) -> ServersFileError:
        return ServersFileError(f"{file}: server '{name}', key '{key}': {problem}. Remedy: {remedy}.")

    if not _NAME.fullmatch(name) or name == "v1":
        raise ServersFileError(
            f"{file}: server '{name}': not a usable name. Remedy: use lower-case letters, digits, '-', '_'; not 'v1'."
        )
    if not isinstance(entry, dict):
        raise ServersFileError(f"{file}: server '{name}': has no settings. Remedy: give it url, token and model.")
    values: dict[str, Any] = entry  # pyright: ignore[reportUnknownVariableType]
    for key in values:
        if key not in _KEYS + _OPTIONAL_KEYS:
            raise fault(key, "unknown key", f"use only {', '.join(_KEYS + _OPTIONAL_KEYS)}")
    for key in _KEYS:
        if key not in values:
            raise fault(key, "missing", f"add '{key}:'" + (' ("" when there is no default)' if key == "model" else ""))
        if not isinstance(values[key], str):
            raise fault(key, "not a text", 'write one quoted text ("" for none)')
    try:
        url = _url(values["url"])
    except ValueError as error:
        raise fault("url", str(error), "give the base of the OpenAI API, such as https://api.openai.com/v1") from error
    try:
        token = token_reference(values["token"])
    except ValueError as error:
        raise fault("token", str(error), "write ${NAME}, secretsmanager:<id>[#key] or ssm:<name>") from error
    try:
        return Server(name, url, token, values["model"], _retries(values.get("retries")), _fallbacks(name, values))
    except ValueError as error:
        key, problem, remedy = error.args
        raise fault(key, problem, remedy) from error


def _retries(value: Any) -> int:
    if value is None:
        return DEFAULT_RETRIES
    if not isinstance(value, str) or not value.isdecimal() or int(value) > _MOST_RETRIES:
        raise ValueError("retries", "not a usable number", f"write a whole number from 0 to {_MOST_RETRIES}")
    return int(value)


def _fallbacks(name: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    value = values.get("fallbacks", [])
    if not isinstance(value, list) or name in value or not all(isinstance(other, str) for other in value):  # pyright: ignore[reportUnknownVariableType]
        raise ValueError("fallbacks", "not a list of other servers", "write [name, other-name]")
    return tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http(s) address")
    if parts.username is not None or parts.query or parts.fragment or any(c.isspace() for c in text):
        raise ValueError("has user, query, fragment or white space")
    _ = parts.port  # raises ValueError when it is no port number
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
