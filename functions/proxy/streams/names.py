"""The names of streams and of places in them, and who owns a stream. Pure.

Its one rule: a name that does not have exactly our form names nothing.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from openai_proxy.events.ulid import ulid_time
from openai_proxy.key_context import ClientKey

from proxy.call import STREAMS
from proxy.errors import ClientError

if TYPE_CHECKING:
    from proxy.streams.table import State

_STATUS = "/status"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def not_found() -> ClientError:
    """The one error for a stream that does not exist, has expired, or belongs to somebody else."""
    message = "There is no such stream, or it is kept no longer. One is kept for some minutes after its end."
    return ClientError(404, "stream_not_found", message)


def stream_id_of(path: str) -> tuple[str, float, bool]:
    """The id in a path below `/v1`, which begins with `STREAMS`, when it was made, and whether its state is asked for.

    The moment is in Unix seconds. Raises ClientError (404), also for an id of a time that no calendar has.
    """
    stream_id, slash, rest = path.removeprefix(STREAMS).partition("/")
    if slash + rest not in ("", _STATUS):
        raise not_found()
    try:
        return stream_id, ulid_time(stream_id).timestamp(), bool(rest)
    except ValueError as error:
        raise not_found() from error


def place_of(stream_id: str, headers: Mapping[str, str], query: str) -> int:
    """The number of the event after which a client goes on; 0 for the whole stream. Raises ClientError (404).

    `Last-Event-ID` comes first: a browser that connects again sends it to the address that it was given.
    """
    named = headers.get("last-event-id", "").strip()
    if named:
        owner, _, number = named.rpartition(".")
        if owner != stream_id:
            raise not_found()
    else:
        try:
            asked = parse_qs(query, keep_blank_values=True, max_num_fields=20).get("after", ["0"])
        except ValueError as error:
            raise not_found() from error
        number = asked[0] if len(asked) == 1 else ""
    if not _NUMBER.fullmatch(number):
        raise not_found()
    return int(number)


def stream_object(state: "State") -> dict[str, Any]:
    """What a client is told of a stream. Its `status` is `stopping` until it has stopped."""
    is_stopping = state.stop_at and not state.is_over
    return {
        "object": "stream",
        "id": state.id,
        "status": "stopping" if is_stopping else state.status,
        "created_at": int(state.created_at),
        "events": state.events if state.is_over else None,
        "error": state.error or None,
        "url": f"/v1{STREAMS}{state.id}",
    }


def owner_of(key: ClientKey) -> str:
    """The owner of the streams of `key`: its line of rotated keys, or the user who has signed in."""
    whose = "\0".join((key.client_id, key.line or key.key_id, key.end_user))
    return hashlib.sha256(whose.encode(errors="replace")).hexdigest()
