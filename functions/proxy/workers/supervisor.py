"""Starts workers as copies of the loaded process, and one for each that ends.

    load once ─▶ gc.freeze ─▶ fork ─┬▶ worker: polls `/next`, serves, polls again
                                    ├▶ worker
                                    └▶ supervisor: waits, starts another for one that has ended, passes SIGTERM on

Copies share the memory of what was loaded until one of them writes to it. Python's `random`, OpenSSL and the kernel
give each copy different random numbers. There must be no connections, threads or locks before the fork.

Its one rule: the supervisor serves no request and opens no connection, so that no request can end it.
"""

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from proxy.log import log
from proxy.workers.memory import SharedText
from proxy.workers.slots import Slots

_MOST = 1600
"""The largest `PerExecutionEnvironmentMaxConcurrency` that Lambda takes."""
_SIGNALS = (signal.SIGTERM, signal.SIGCHLD)
_AS_TOLD = (0, -signal.SIGTERM)
"""How a worker ends that was told to; the latter where it is told a second time while it ends."""


def workers_of(text: str) -> int:
    """How many workers AWS_LAMBDA_MAX_CONCURRENCY asks for; one if it is no valid number."""
    count = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST)) else 0
    if 1 <= count <= _MOST:
        return count
    log("ERROR", "AWS_LAMBDA_MAX_CONCURRENCY is no number of workers: there will be one", value=text[:32])
    return 1


class Supervisor:
    """Keeps `count` workers running. `tell` is called with what a worker has left if no other worker follows it."""

    def __init__(self, count: int, on_sigterm: Callable[..., object], tell: Callable[[SharedText], None]) -> None:
        self._slots = Slots(count)
        self._memories = [SharedText() for _ in range(count)]
        self._on_sigterm, self._tell = on_sigterm, tell
        self._reader, self._writer = os.pipe()
        self._stopping = self._has_told = False

    def run(self) -> SharedText:
        """Start the workers. This returns in each worker, with what its predecessor has left. In the supervisor it ends
        with the process.
        """
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        for number in _SIGNALS:
            signal.signal(number, self._noted)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        while True:
            for slot in self._slots.due(time.monotonic()):
                if not self._stopping and self._fork(slot):
                    return self._memories[slot]
            if self._stopping:
                self._pass_on()
            if self._is_over():
                self._end()
            self._wait()
            self._reap()

    def _noted(self, number: int, _frame: object) -> None:
        self._stopping = self._stopping or number == signal.SIGTERM

    def _pass_on(self) -> None:
        """Tell each worker, once, to end when it has served its request."""
        if not self._has_told:
            self._has_told = True
            for process in self._slots.running:
                os.kill(process, signal.SIGTERM)

    def _is_over(self) -> bool:
        return not self._slots.running if self._stopping else self._slots.is_hopeless

    def _end(self) -> NoReturn:
        """Pass what the last workers have left to `tell`, because no worker follows them."""
        for memory in self._memories:
            self._tell(memory)
        if self._stopping:
            sys.exit(0)
        log("CRITICAL", "No worker stays alive: the environment ends")
        sys.exit(1)

    def _fork(self, slot: int) -> bool:
        """Start the worker of `slot`. Returns True in the worker, and False in the supervisor.

        Signals are blocked meanwhile: one that came in between would miss the new process.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process = os.fork()
            if process == 0:
                self._become_worker()
                return True
            self._slots.started(slot, process, time.monotonic())
        except OSError as error:
            log("ERROR", "A worker could not be started", reason=str(error))
            self._slots.failed(slot, time.monotonic())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return False

    def _become_worker(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        os.close(self._reader)
        os.close(self._writer)

    def _wait(self) -> None:
        """Wait until a signal comes, or a worker is due."""
        seconds = None if self._stopping else self._slots.wait(time.monotonic())
        select.select([self._reader], [], [], seconds)
        try:
            while os.read(self._reader, 4096):
                pass
        except BlockingIOError:
            pass

    def _reap(self) -> None:
        while self._slots.running:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if code not in _AS_TOLD:
                log("ERROR", "A worker has ended: another one takes its place", status=code)
            self._slots.ended(process, time.monotonic())


def take_output(path: str) -> None:
    """Write output to this worker's own stream, which Lambda offers at the socket `path`, so that lines stay whole."""
    try:
        for number in (1, 2):
            with socket.socket(socket.AF_UNIX) as own:
                own.connect(path)
                os.dup2(own.fileno(), number)
    except OSError as error:
        log("WARN", "A worker has no stream of its own for its log", reason=str(error))
