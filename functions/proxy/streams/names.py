"""What clients call a stream and a place in it, and whose a stream is. Pure.

Its one rule: a name that is not exactly one of ours is the name of nothing.
"""

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import parse_qs

from openai_proxy.key_context import ClientKey

from proxy.call import STREAMS
from proxy.errors import ClientError

_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def not_found() -> ClientError:
    """The one answer to whoever asks for what is not there, is over, or is somebody else's."""
    message = "There is no such stream, or it is kept no longer. One is kept for some minutes after its end."
    return ClientError(404, "stream_not_found", message)


def stream_id_of(path: str) -> str:
    """The id in a path below `/v1`, which begins with `STREAMS`. Raises ClientError (404)."""
    found = path.removeprefix(STREAMS)
    if not _ID.fullmatch(found):
        raise not_found()
    return found


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


def owner_of(key: ClientKey) -> str:
    """Whose the streams of `key` are: of its line of rotated keys, or of the user who has signed in."""
    whose = "\0".join((key.client_id, key.line or key.key_id, key.end_user))
    return hashlib.sha256(whose.encode(errors="replace")).hexdigest()
