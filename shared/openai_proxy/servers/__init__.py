"""`openai_servers.yaml`: the upstream servers, the options of each, and how the proxy signs in to each."""

from openai_proxy.servers.file import (
    Server,
    ServersFileError,
    TokenReference,
    load_servers,
    parse_servers,
    servers_text,
    token_reference,
    warnings_of,
)

__all__ = [
    "Server",
    "ServersFileError",
    "TokenReference",
    "load_servers",
    "parse_servers",
    "servers_text",
    "token_reference",
    "warnings_of",
]
