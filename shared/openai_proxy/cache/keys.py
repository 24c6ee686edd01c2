"""The keys of the response cache: of answers and leases in its table, and of objects in its bucket. Pure."""

import re
from typing import Any

FOLDER = "captured/"
_LEASE = "lease#"
_OBJECT = re.compile(rf"{FOLDER}([A-Za-z0-9_.-]{{1,64}})/[0-7][0-9A-HJKMNP-TV-Z]{{25}}")


def item_key(name: str) -> dict[str, Any]:
    """The key of the table's item for a cache key, or for what `lease_key` gives."""
    return {"cache_key": {"S": name}}


def lease_key(name: str) -> str:
    """The key in the cache table of the lease that has this name."""
    return _LEASE + name


def lease_name(cache_key: str, *, is_stream: bool | None) -> str:
    """The name of the lease of who fetches an answer; `is_stream` is None if an answer in either form is good for all
    who wait.
    """
    return cache_key + ("" if is_stream is None else "#stream" if is_stream else "#document")


def lease_keys_of(cache_key: str) -> list[str]:
    """The keys in the cache table of all leases that there may be for an answer."""
    return [lease_key(lease_name(cache_key, is_stream=form)) for form in (None, True, False)]


def folder_of(client_id: str | None) -> str:
    """The folder with the objects of one client, or of all clients."""
    return FOLDER if client_id is None else f"{FOLDER}{client_id}/"


def object_key(client_id: str, event_id: str) -> str:
    """The key of the object that holds the answer of an event."""
    return folder_of(client_id) + event_id


def is_object_key(key: str, client_id: str | None = None) -> bool:
    """Whether this may be the key of an object, of this client or of any."""
    found = _OBJECT.fullmatch(key)
    return found is not None and client_id in (None, found[1])
