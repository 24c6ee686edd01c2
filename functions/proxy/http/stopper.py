"""Ends what is being exchanged with an upstream server, from another thread than the one that waits for it.

Its one rule: it ends its own request's exchange and no other, however late it is asked to.
"""

from threading import Lock

from proxy.errors import ProxyError
from proxy.http.exchange import Exchange


class Stopper:
    """Of one request. `error` is why it was stopped, once it was."""

    def __init__(self) -> None:
        self.error: ProxyError | None = None
        self._exchange: Exchange | None = None
        self._is_over = False
        self._lock = Lock()

    def watch(self, exchange: Exchange) -> None:
        """From now on this is the exchange to be ended. Raises the error of a request that was stopped before."""
        with self._lock:
            if self.error:
                raise self.error
            self._exchange = exchange

    def stop(self, error: ProxyError) -> None:
        """End the exchange: who waits for it gets `error`. So does who begins another one."""
        with self._lock:
            if self._is_over or self.error:
                return
            self.error = error
            if self._exchange:
                self._exchange.stop(error)

    def over(self) -> None:
        """The request has its answer: its connection may be another's from now on."""
        with self._lock:
            self._is_over, self._exchange = True, None
