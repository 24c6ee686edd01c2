"""Keeps a server's token out of an error in the middle of a stream: some servers quote the request that failed.

Its one rule: only an event that reports an error is changed. A model may write what is a server's token, where that is
a word such as `none`.
"""

from collections.abc import Callable

from proxy.json_shapes import loads_or_none
from proxy.metering.reported_error import error_of_event
from proxy.metering.sse import data_of, split_events

_INSTEAD = b"..."


class WithoutToken:
    """Passes whole events on to `write`. `spellings` are those of the token; of a question, pieces have known forms."""

    def __init__(self, write: Callable[[bytes], None], spellings: tuple[bytes, ...], is_question: bool) -> None:
        self._write, self._spellings, self._is_question = write, spellings, is_question

    def __call__(self, events: bytes) -> None:
        """Pass on events. The search goes backwards, because it then skips the length of the token at a time."""
        for each in self._spellings:
            if events.rfind(each) >= 0:
                events = b"".join(map(self._without, split_events(events)))
        self._write(events)

    def _without(self, event: bytes) -> bytes:
        if error_of_event(event, loads_or_none(data_of(event)), is_question=self._is_question) is None:
            return event
        for each in self._spellings:
            event = event.replace(each, _INSTEAD)
        return event


def spellings_of(token: str) -> tuple[bytes, ...]:
    """A token as it may stand in JSON: some servers escape every slash."""
    plain = token.encode()
    return (plain, plain.replace(b"/", rb"\/")) if b"/" in plain else (plain,)
