"""`openai_servers.yaml`: the upstream servers, what each may be given, and how each is signed in to."""

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
