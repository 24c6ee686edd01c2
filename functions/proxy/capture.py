"""Keeping an answer while it passes, and telling afterwards whether it was whole. Pure.

Its one rule: half an answer, or one that somebody stopped, is never kept. What grows beyond its bound is dropped at
once, so that memory stays flat.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from proxy.json_shapes import array_of, loads_or_none, object_of

MOST_MARKS = 128
_TERMINAL = frozenset({"stop", "length", "tool_calls", "function_call"})
"""Finish reasons of an answer that would be the same again; `length` because its bound is in the key."""
_END_MARK = b"[DONE]"
_LONGEST_END = 64


class Capture:
    """The pieces of one body of up to `largest` bytes, and when they came."""

    def __init__(self, largest: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._largest = largest
        self._clock = clock
        self._first = 0.0
        self._every = 1
        self._taken = 0
        self.pieces: list[bytes] = []
        self.size = 0
        self.timing: list[tuple[int, int]] = []
        """Where pieces begin, and milliseconds since the first; of many pieces every second, fourth, … one."""

    def watch(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """`body`, of which every piece is kept when it has been passed on."""
        for piece in body:
            yield piece
            self.take(piece)

    def take(self, piece: bytes) -> None:
        """Keep a piece, unless the body has become too large."""
        begin, now = self.size, self._clock()
        self.size += len(piece)
        if self.is_too_large:
            self.pieces.clear()
            self.timing.clear()
            return
        self.pieces.append(piece)
        self._first = self._first or now
        if self._taken % self._every == 0:
            if len(self.timing) == MOST_MARKS:
                self.timing = self.timing[::2]
                self._every *= 2
            if self._taken % self._every == 0:
                self.timing.append((begin, int((now - self._first) * 1000)))
        self._taken += 1

    @property
    def is_too_large(self) -> bool:
        """Whether the body is larger than what is kept: then nothing of it is."""
        return self.size > self._largest


def is_complete(
    path: str, fields: Mapping[str, Any], pieces: Sequence[bytes], finish_reasons: Sequence[str], *, is_stream: bool
) -> bool:
    """Whether `pieces` are all of a good answer to the request `fields`: each of its choices came to its own end.

    A stream of chat or text has to end in its end mark too: without, its usage may be missing.
    """
    if path == "/embeddings":
        return _has_all_embeddings(fields, pieces)
    if path == "/responses":
        return list(finish_reasons[-1:]) == ["completed"] and set(finish_reasons) == {"completed"}
    if is_stream and not _end_of(pieces).rstrip().endswith(_END_MARK):
        return False
    return len(finish_reasons) >= _choices_of(path, fields) and set(finish_reasons) <= _TERMINAL


def _choices_of(path: str, fields: Mapping[str, Any]) -> int:
    """How many choices the answer has: for each prompt as many as were asked for."""
    number = fields.get("n")
    wanted = number if isinstance(number, int) and number > 0 else 1
    return wanted * (_inputs_of(fields.get("prompt")) if path == "/completions" else 1)


def _inputs_of(given: Any) -> int:
    """How many inputs a `prompt` or `input` holds: a text or a list of tokens is one, a list of either as many."""
    inputs = array_of(given)
    return len(inputs) if inputs and not isinstance(inputs[0], int) else 1


def _has_all_embeddings(fields: Mapping[str, Any], pieces: Sequence[bytes]) -> bool:
    answer = object_of(loads_or_none(b"".join(pieces)))
    vectors = [object_of(each).get("embedding") for each in array_of(answer.get("data"))]
    return len(vectors) == _inputs_of(fields.get("input")) and all(vectors) and not answer.get("error")


def _end_of(pieces: Sequence[bytes]) -> bytes:
    """The last few bytes, in however many pieces they came."""
    end = b""
    for piece in reversed(pieces):
        end = piece[-_LONGEST_END:] + end
        if len(end) >= _LONGEST_END:
            break
    return end
