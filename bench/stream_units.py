"""What writing down a resumable stream costs: calls and billed units, counted on the code that writes it.

One rule: no figure is a guess. Seconds pass as the clock that is given says, and the pieces are what the code makes.
"""

import base64
import json
import math
from typing import Any, NamedTuple

from openai_proxy.events.streams import LOOK_AFTER_SECONDS
from proxy.streams.numbering import Numbering
from proxy.streams.recording import Recording, Times, Watched
from proxy.streams.table import State, StreamsTable

from bench.units import SAMPLE, size_of

STREAM = "01M8N9AYMW0CYZ6R6NYRBAE5WY"
_BEGAN = 1_795_000_000.0
WRITE_USD, READ_USD = 0.625e-6, 0.125e-6
LOOK_USD = 3 * 0.4e-6 + 0.2e-6 + READ_USD / 2
"""A message is sent, received and deleted; an invocation, for a message alone; half a read unit."""


class StreamUnits(NamedTuple):
    """Of one stream: calls that write and that look whether it is to be stopped, and their billed units.

    `watches` is how often somebody looks whether its sandbox is still there.
    """

    writes: int
    write_units: int
    reads: int
    read_units: int
    bytes_passed: int
    bytes_written: int
    watches: int

    @property
    def usd(self) -> float:
        """What the units and the watches cost."""
        return self.write_units * WRITE_USD + self.read_units * READ_USD + self.watches * LOOK_USD


class _Counted:
    """The streams table, which counts what it is given."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.writes = self.write_units = self.reads = self.read_units = self.bytes = self.sent = 0
        self.look_in = 0.0

    def _written(self, item: dict[str, Any]) -> None:
        size = size_of({name: _plain(value) for name, value in item.items()})
        self.writes, self.write_units = self.writes + 1, self.write_units + math.ceil(size / 1024)
        self.bytes += size

    def put_item(self, arguments: dict[str, Any], _timeout: float) -> tuple[bool, None]:
        if "status" in arguments["Item"]:
            self.state = arguments["Item"]
        self._written(arguments["Item"])
        return True, None

    def update_item(self, arguments: dict[str, Any], _timeout: float) -> tuple[bool, dict[str, Any]]:
        names, values = arguments["ExpressionAttributeNames"], arguments["ExpressionAttributeValues"]
        parts = arguments["UpdateExpression"].removeprefix("SET ").split(", ")
        self.state = self.state | {names[name]: values[value] for name, value in (part.split(" = ") for part in parts)}
        self._written(self.state)
        return True, self.state

    def send_message(self, _queue: str, _body: str, delay: int, _timeout: float) -> None:
        self.sent, self.look_in = self.sent + 1, delay

    def get_item(self, _arguments: dict[str, Any], _timeout: float) -> dict[str, Any]:
        size = size_of({name: _plain(value) for name, value in self.state.items()})
        self.reads, self.read_units = self.reads + 1, self.read_units + math.ceil(size / 4096)
        return self.state


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    return {"B": base64.b64decode(value["B"])} if "B" in value else value


class _NoObjects:
    """Chats are never so large."""

    def put(self, key: str, body: bytes, timeout: float) -> None:
        raise NotImplementedError

    def get(self, key: str, timeout: float, largest: int) -> bytes:
        raise NotImplementedError


def stream_units(seconds: int, chunks_a_second: int) -> StreamUnits:
    """A chat that streams so long, a word of its text in each chunk."""
    now = [_BEGAN]
    counted: Any = _Counted()
    unfinished = json.dumps(json.loads(SAMPLE.read_text())["detail"])
    state = State(STREAM, "0" * 64, "/chat/completions", created_at=_BEGAN, expires_at=_BEGAN + 1500)
    table = StreamsTable(counted, "streams", _NoObjects(), queue="queue")
    watched, times = Watched(_nothing, lambda: False), Times(lambda: now[0], _nothing)
    recording = Recording(table, state._replace(unfinished=unfinished), 600, watched, times)
    recording.tick()
    numbering, passed, watches, look_at = Numbering(STREAM), 0, counted.sent, _BEGAN + counted.look_in
    for chunk in _chunks(seconds * chunks_a_second):
        events = numbering.feed(chunk)
        passed += len(events)
        recording.add(events, numbering.number)
        if numbering.number % chunks_a_second == 0:
            now[0] += 1
            recording.tick()
            if now[0] >= look_at:
                look_at, watches = int(counted.state["lease_until"]["N"]) / 1000 + LOOK_AFTER_SECONDS, watches + 1
    recording.end("completed")
    recording.write_rest()
    found = counted
    return StreamUnits(found.writes, found.write_units, found.reads, found.read_units, passed, found.bytes, watches)


def _nothing(_: object) -> None: ...


def _chunks(number: int) -> list[bytes]:
    """Words of a text that stays the same, and repeats itself about as seldom as what a model writes."""
    words = [each.strip(".,;:()`*|") for each in (SAMPLE.parents[2] / "LICENSE").read_text().split()]
    return [
        b"data: "
        + json.dumps(
            {
                "id": "chatcmpl-CiZ0R0pAgSk3YwJb0J8N3vXw1aQ5L",
                "object": "chat.completion.chunk",
                "created": int(_BEGAN),
                "model": "gpt-5.4-mini-2026-03-05",
                "service_tier": "default",
                "system_fingerprint": "fp_560af6e559",
                "choices": [
                    {
                        "index": 0,
                        "delta": {"content": f" {words[place % len(words)]}"},
                        "logprobs": None,
                        "finish_reason": None,
                    }
                ],
                "obfuscation": "",
            },
            separators=(",", ":"),
        ).encode()
        + b"\n\n"
        for place in range(number)
    ]
