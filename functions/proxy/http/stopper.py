"""Ends an exchange with an upstream server from another thread than the one that waits for it.

Its one rule: it ends its own request's exchange and no other, however late it is asked to.
"""

from threading import Lock
from typing import Protocol

from proxy.errors import ProxyError


class Stoppable(Protocol):
    """An exchange under way, which can be ended from another thread."""

    def stop(self, error: ProxyError, /) -> None:
        """Whoever waits for it gets `error`."""
        ...


class Stopper:
    """Stops one request. `error` is why the request was stopped; None until then."""

    def __init__(self) -> None:
        self.error: ProxyError | None = None
        self._exchange: Stoppable | None = None
        self._is_over = False
        self._lock = Lock()

    def watch(self, exchange: Stoppable) -> None:
        """From now on, `stop` ends this exchange. Raises `error` if the request was stopped before."""
        with self._lock:
            if self.error:
                raise self.error
            self._exchange = exchange

    def stop(self, error: ProxyError) -> None:
        """End the exchange: whoever waits for it gets `error`, and so does whoever begins another one for the
        request.
        """
        with self._lock:
            if self._is_over or self.error:
                return
            self.error = error
            if self._exchange:
                self._exchange.stop(error)

    def over(self) -> None:
        """The request has its answer. From now on its connection may belong to another request."""
        with self._lock:
            self._is_over, self._exchange = True, None
