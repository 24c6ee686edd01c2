"""The table of streams: of each one its state, and its events in pieces.

    stream_id   event                what
    id          n (from 1)           the piece whose first event is n: `packed`, or in the bucket as an `object`
    id          STATE                whose it is, how it stands, until when its writer has promised to be there; at
                                     its end a last piece that is small is in it (`first`, `packed`)

The state comes last in the order of the table, so one read gives a reader the pieces that it lacks and the state after
them. Its one rule: a piece that has been written never changes, however often its writer has to write it. Calls raise
AwsError.
"""

import base64
import contextlib
import zlib
from typing import Any, Literal, NamedTuple, Protocol

from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.streams import KILLED, LEASE_SECONDS, LOOK_AFTER_SECONDS, STATE

from proxy.aws.client import Aws
from proxy.json_shapes import object_of

LARGEST_ITEM = 64 * 1024
"""Bytes of a packed piece. A larger one is an object in the bucket, which costs one more call and less money."""
LARGEST_ENDING = 8 * 1024
"""Bytes of a packed piece that is written with the end: who asks how the stream stands reads it, too."""
LARGEST_PIECE = 4 * 1024 * 1024
"""Bytes of a piece before it is packed, unless a single event is larger."""
_LARGEST_OBJECT = 32 * 1024 * 1024
_FOLDER = "streams/"
_FAST = 1
_MOMENTS = ("created_at", "lease_until", "stop_at", "seen_at")
LOST = "stream_not_kept"
"""The `error` of a stream that could not be written down to its end."""
MOST_LOST = 1_000_000
"""How far the numbers of the events that tell of a cut lie behind those that were written: its client may have had more
events than those, and must not take the end for one of them."""

Ended = Literal["completed", "failed", "stopped"]
Status = Literal["in_progress"] | Ended


class Objects(Protocol):
    """As much of a bucket as is needed."""

    def put(self, key: str, body: bytes, timeout: float) -> None: ...
    def get(self, key: str, timeout: float, largest: int) -> bytes: ...


class State(NamedTuple):
    """The state of a stream. Moments are Unix seconds.

    `events` is the number of the last event, once it has ended; `path` is what was asked. `unfinished` is the terminal
    event to be published if its writer is killed, as `unfinished_text` makes it; "" when the event has been published.
    """

    id: str
    owner: str
    path: str
    status: Status = "in_progress"
    created_at: float = 0.0
    lease_until: float = 0.0
    expires_at: float = 0.0
    events: int = 0
    error: str = ""
    """The code of what ended it, if that was not its own end."""
    stop_at: float = 0.0
    """When its client asked to stop it; 0.0: not yet."""
    seen_at: float = 0.0
    """When somebody was there to read it, where that matters."""
    on_disconnect: str = ""
    unfinished: str = ""
    client_id: str = ""
    """Whose streams can be erased together."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.status != "in_progress"

    @property
    def is_cut(self) -> bool:
        """Whether a part of it was not stored."""
        return self.error in (KILLED, LOST)


class Piece(NamedTuple):
    """Some events in a row: the number of the first one, their bytes with their ids, and the number of the last one."""

    first: int
    events: bytes
    last: int = 0


class StreamsTable:
    """Reads and writes streams. `timeout` (seconds) is for each call; `queue` is that of `end_streams`, an address."""

    def __init__(self, aws: Aws, table: str, objects: Objects, timeout: float = 1.0, queue: str = "") -> None:
        self._aws = aws
        self._table = table
        self._objects = objects
        self._timeout = timeout
        self._queue = queue

    # ------------------------------------------------------------------------------------------------- for its writer

    def begin(self, state: State) -> None:
        """Write the state of a stream that begins. Repeating the call changes nothing."""
        condition = {"ConditionExpression": "attribute_not_exists(stream_id)"}
        self._aws.put_item({"TableName": self._table, "Item": _item_of(state), **condition}, self._timeout)

    def have_looked_at(self, stream_id: str) -> None:
        """Have `end_streams` look at a stream when its first lease is over, whether or not somebody reads it."""
        if self._queue:
            delay = int(LEASE_SECONDS) + LOOK_AFTER_SECONDS
            self._aws.send_message(self._queue, f'{{"stream_id":"{stream_id}"}}', delay, self._timeout)

    def end(self, state: State, piece: Piece | None = None, *, is_begun: bool = True) -> None:
        """Write how a stream has ended, and its last piece. Raises LostError where it was given up, or had ended."""
        item = _item_of(state)
        if piece:
            packed = zlib.compress(piece.events, _FAST)
            if len(packed) > LARGEST_ENDING:
                self._put_packed(state.id, piece, packed, state.expires_at)
            else:
                item |= to_item({"first": piece.first}) | _binary(packed)
        arguments = {
            "TableName": self._table,
            "Item": item,
            "ConditionExpression": f"{'' if is_begun else 'attribute_not_exists(stream_id) OR '}#status = :running",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": to_item({":running": "in_progress"}),
        }
        held, _ = self._aws.put_item(arguments, self._timeout)
        if not held:
            raise LostError(state.id)

    def put_piece(self, stream_id: str, piece: Piece, expires_at: float) -> None:
        """Write a piece. After a call whose answer was lost, the same piece is written again."""
        self._put_packed(stream_id, piece, zlib.compress(piece.events, _FAST), expires_at)

    def _put_packed(self, stream_id: str, piece: Piece, packed: bytes, expires_at: float) -> None:
        item: dict[str, Any] = {"stream_id": stream_id, "event": piece.first, "last": piece.last}
        item["expires_at"] = int(expires_at) + 1
        if len(packed) > LARGEST_ITEM:
            item["object"] = f"{_FOLDER}{stream_id}/{piece.first}"
            self._objects.put(item["object"], packed, self._timeout)
        encoded = to_item(item) if "object" in item else to_item(item) | _binary(packed)
        self._aws.put_item({"TableName": self._table, "Item": encoded}, self._timeout)

    def renew(self, stream_id: str, lease_until: float) -> State:
        """Promise to be there until `lease_until`. Returns the state. Raises LostError if the stream was given up."""
        return self._while_running(stream_id, {"lease_until": lease_until})

    # ------------------------------------------------------------------------------------------------ for its readers

    def state(self, stream_id: str) -> State | None:
        """The state of a stream; None if there is no such stream."""
        key = to_item({"stream_id": stream_id, "event": STATE})
        arguments = {"TableName": self._table, "Key": key, "ConsistentRead": True}
        return _state_in(self._aws.get_item(arguments, self._timeout))

    def piece_before(self, stream_id: str, event: int) -> int:
        """The first number of the last piece that begins at `event` or before; 0 if there is none."""
        arguments = self._query(stream_id, "#event BETWEEN :first AND :last", {":first": 1, ":last": event})
        found = self._aws.query(
            {**arguments, "ScanIndexForward": False, "Limit": 1, "ProjectionExpression": "#event"}, self._timeout
        )
        return _whole(found[0], "event") if found else 0

    def since(self, stream_id: str, event: int) -> tuple[list[Piece], State | None]:
        """The pieces that begin after `event`, and the state if no more pieces follow them."""
        arguments = self._query(stream_id, "#event BETWEEN :first AND :last", {":first": event + 1, ":last": STATE})
        found = self._aws.query(arguments, self._timeout)
        pieces = [self._piece_in(item, "event") for item in found if _whole(item, "event") != STATE]
        state = _state_in(found[-1]) if found else None
        known = pieces[-1].first if pieces else event
        if state and _whole(found[-1], "first") > known:  # else it was written before, by a call whose answer was lost
            pieces.append(self._piece_in(found[-1], "first"))
        return pieces, state

    def give_up(self, stream_id: str, events: int, now: float) -> State | None:
        """End a stream whose writer has not kept its promise. The caller then has LEASE_SECONDS to publish its event.

        None where somebody else is about to publish it, or has done so, or the writer is back.
        """
        changes = {"status": "failed", "error": KILLED, "events": events, "lease_until": now + LEASE_SECONDS}
        values = {":none": "", ":now": _milliseconds(now)}
        try:
            return self._update(stream_id, changes, "unfinished > :none AND lease_until < :now", values)
        except LostError:
            return None

    def told(self, stream_id: str) -> None:
        """Remember that the event of a stream that was given up has been published."""
        with contextlib.suppress(LostError):
            self._update(stream_id, {"unfinished": ""}, "unfinished > :none", {":none": ""})

    def stop(self, stream_id: str, now: float) -> State:
        """Ask the writer to stop a stream. Raises LostError if the stream has ended."""
        return self._while_running(stream_id, {"stop_at": now})

    def seen(self, stream_id: str, now: float) -> State:
        """Note that somebody reads a stream. Raises LostError if the stream has ended."""
        return self._while_running(stream_id, {"seen_at": now})

    def _while_running(self, stream_id: str, changes: dict[str, Any]) -> State:
        return self._update(stream_id, changes, "#status = :running", {":running": "in_progress"})

    def _query(self, stream_id: str, condition: str, values: dict[str, Any]) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": f"stream_id = :id AND {condition}",
            "ExpressionAttributeNames": {"#event": "event"},
            "ExpressionAttributeValues": to_item({":id": stream_id, **values}),
        }

    def _update(self, stream_id: str, changes: dict[str, Any], condition: str, values: dict[str, Any]) -> State:
        """Change a state if `condition` holds. Returns the new state. Raises LostError if it does not hold."""
        encoded = {name: _milliseconds(value) if name in _MOMENTS else value for name, value in changes.items()}
        named = {*changes, "status"} if "#status" in condition else changes
        arguments = {
            "TableName": self._table,
            "Key": to_item({"stream_id": stream_id, "event": STATE}),
            "UpdateExpression": "SET " + ", ".join(f"#{name} = :new_{name}" for name in changes),
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {f"#{name}": name for name in named},
            "ExpressionAttributeValues": to_item(values | {f":new_{name}": value for name, value in encoded.items()}),
            "ReturnValues": "ALL_NEW",
        }
        held, item = self._aws.update_item(arguments, self._timeout)
        state = _state_in(item or {}) if held else None
        if state is None:
            raise LostError(stream_id)
        return state

    def _piece_in(self, item: dict[str, Any], name: str) -> Piece:
        """Read an item as a piece. `name` is the number of its first event."""
        first, place = _whole(item, name), object_of(item.get("object")).get("S")
        if isinstance(place, str):
            packed = self._objects.get(place, self._timeout, _LARGEST_OBJECT)
        else:
            packed = base64.b64decode(object_of(item.get("packed")).get("B", ""))
        return Piece(first, zlib.decompress(packed), _whole(item, "last"))


class LostError(Exception):
    """A stream does not belong to its writer any more: it was given up, because the writer did not renew its lease."""


def _item_of(state: State) -> dict[str, Any]:
    values: dict[str, Any] = {"stream_id": state.id, "event": STATE, **state._asdict()}
    del values["id"]
    values |= {name: _milliseconds(values[name]) for name in _MOMENTS}
    values["expires_at"] = int(state.expires_at) + 1
    return to_item({name: value for name, value in values.items() if value not in ("", 0)})


def _binary(packed: bytes) -> dict[str, Any]:
    return {"packed": {"B": base64.b64encode(packed).decode()}}


def _state_in(item: dict[str, Any]) -> State | None:
    """Read an item as a state; None if it is none."""
    if _whole(item, "event") != STATE:
        return None
    try:
        values = from_item(item)
        return State(
            values["stream_id"],
            values["owner"],
            values["path"],
            values["status"],
            float(values["created_at"]) / 1000,
            float(values["lease_until"]) / 1000,
            float(values["expires_at"]),
            int(values.get("events", 0)),
            values.get("error", ""),
            float(values.get("stop_at", 0)) / 1000,
            float(values.get("seen_at", 0)) / 1000,
            values.get("on_disconnect", ""),
            values.get("unfinished", ""),
            values.get("client_id", ""),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _whole(item: dict[str, Any], name: str) -> int:
    """A whole number of an item; 0 if it is none."""
    try:
        return int(item[name]["N"])
    except (KeyError, TypeError, ValueError):
        return 0


def _milliseconds(moment: float) -> int:
    return int(moment * 1000)
