"""Keeps an answer whose content is wanted while it passes, and reads its texts. Pure.

Its one rule: the pieces of a stream's texts are joined before they are read, because a secret that is cut in two by
chunks could not be recognised.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from proxy.json_shapes import array_of, loads_or_none, object_of
from proxy.metering.sse import data_of, split_events

_NOT_SAID = ("type", "signature")
_MOST = 4 * 1024 * 1024
"""Bytes that are remembered of an answer."""


class ResponseRecorder:
    """Keeps an answer while it passes. `content_type` is in lower case."""

    def __init__(self, content_type: str) -> None:
        self.content_type = content_type
        self.size = 0
        self._kept = bytearray()

    def pass_on(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Pass on `body`, piece by piece as it comes, and keep a copy."""
        for piece in body:
            yield piece
            self.size += len(piece)
            self._kept += piece[: _MOST - len(self._kept)]

    @property
    def is_cut(self) -> bool:
        """Whether the answer was longer than what is kept."""
        return self.size > len(self._kept)

    def content(self) -> Any:
        """The answer as a JSON value; None if it is no text, or if it was cut and cannot be read."""
        if self.content_type.startswith("text/event-stream"):
            return _texts_of(bytes(self._kept))
        if "json" in self.content_type:
            return None if self.is_cut else loads_or_none(self._kept)
        return self._kept.decode(errors="replace") if self.content_type.startswith("text/") else None


def _texts_of(events: bytes) -> dict[str, Any]:
    """The texts of a stream by where they stand: `choices.0.delta.content`, `response.output_text.delta.0.0`.

    Of other events, such as `response.completed`, the last one of each type is kept as it is.
    """
    texts: dict[str, list[str]] = {}
    whole: dict[str, Any] = {}
    for event in split_events(events):
        frame = object_of(loads_or_none(data_of(event)))
        kind = frame.get("type")
        if isinstance(kind, str) and isinstance(frame.get("delta"), str):
            where = [str(frame[name]) for name in ("output_index", "content_index") if name in frame]
            texts.setdefault(".".join((kind, *where)), []).append(frame["delta"])
        elif isinstance(frame.get("response"), dict):
            whole["response"] = frame["response"]
        elif kind == "content_block_delta":  # of Anthropic's Messages API, whose `type` and `signature` are no texts
            said = {name: text for name, text in object_of(frame.get("delta")).items() if name not in _NOT_SAID}
            _collect(said, f"content.{frame.get('index', 0)}", texts)
        elif kind == "content_block_start" and object_of(frame.get("content_block")).get("name"):
            whole[f"content.{frame.get('index', 0)}.name"] = frame["content_block"]["name"]
        elif kind == "message_delta":
            whole["stop_reason"] = object_of(frame.get("delta")).get("stop_reason")
        elif "error" in frame:
            whole["error"] = frame["error"]
        else:
            for choice in map(object_of, array_of(frame.get("choices"))):
                path = f"choices.{choice.get('index', 0)}"
                for name in ("delta", "text", "message"):
                    _collect(choice.get(name), f"{path}.{name}", texts)
                if choice.get("finish_reason"):
                    whole[f"{path}.finish_reason"] = choice["finish_reason"]
    return {path: "".join(pieces) for path, pieces in texts.items()} | whole


def _collect(value: Any, path: str, texts: dict[str, list[str]]) -> None:
    """Add every text in `value` to those at its path. Members of an array are identified by their own `index`."""
    if isinstance(value, str):
        if value:
            texts.setdefault(path, []).append(value)
    elif isinstance(value, list):
        for place, each in enumerate(array_of(value)):
            _collect(each, f"{path}.{object_of(each).get('index', place)}", texts)
    elif isinstance(value, dict):
        for name, each in object_of(value).items():
            _collect(each, f"{path}.{name}", texts)
