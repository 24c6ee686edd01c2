"""A deadline for blocking reads. httpx knows one timeout for every read of a body, and no deadline over all of them.

One daemon thread per sandbox, asleep unless a deadline is near: it shuts the socket that is still being read then, and
the reader sees the connection end. Setting and clearing a deadline costs a lock, not a thread.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Generator


class Watchdog:
    """Shuts one socket at one deadline. `guarding` is entered by one request at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._deadline = 0.0

    @contextlib.contextmanager
    def guarding(self, sock: object, deadline: float) -> Generator[None]:
        """Shut `sock` if the body of this context is still running at `deadline` (Unix seconds)."""
        if not isinstance(sock, socket.socket):
            raise TypeError(f"cannot guard a {type(sock).__name__}")
        with self._changed:
            self._socket, earlier = sock, self._deadline
            self._deadline = deadline
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()
            elif deadline < earlier or not earlier:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._socket = None

    def _watch(self) -> None:
        with self._changed:
            while True:
                left = self._deadline - time.time()
                if left > 0:
                    self._changed.wait(left)
                    continue
                if self._socket is not None:
                    # Not `self._socket.shutdown`: an SSLSocket's own would take its TLS state from under the reader.
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                    self._socket = None
                self._deadline = 0.0
                self._changed.wait()
