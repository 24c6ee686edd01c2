"""A Lambda Runtime API loop that streams responses, which managed Python cannot.

Started by `bootstrap` (the function's exec wrapper) in place of the managed loop. Its one rule: whatever an
invocation does, exactly one answer is posted for it, and the next invocation is asked for only after the handler
has returned, so that work after the last byte is neither frozen nor lost.
"""

import gc
import importlib
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable, MutableMapping
from types import FrameType, ModuleType
from typing import NoReturn

from proxy.deadlines import for_client
from proxy.http.wire import Head, HttpError
from proxy.log import log, log_of_invocation, trace_of
from proxy.runtime_api import Invocation, ResponseStream, RuntimeApi, error_report, invocation_of

StreamHandler = Callable[[Invocation, ResponseStream], None]

_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 1.6)
"""Seconds before the Runtime API is asked once more, when it gave no invocation."""


class Runtime:
    """The loop: next invocation, handler, answer, again."""

    def __init__(self, environ: MutableMapping[str, str], sleep: Callable[[float], None] = time.sleep) -> None:
        self._environ = environ
        self._sleep = sleep
        self._api = RuntimeApi(environ["AWS_LAMBDA_RUNTIME_API"])
        self._waiting = False
        self._stopping = False
        self._is_one_of_several = False

    def run(self) -> NoReturn:
        """Load the handler's module and serve invocations until the process is told to stop."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            self._run()
        finally:
            self._api.close()

    def _run(self) -> NoReturn:
        module = self._load()
        handle: StreamHandler = module.stream
        if self._environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            self._snapshot(module)
        # objects made in INIT live as long as the sandbox: the collector need not search them again and again
        gc.freeze()
        if concurrency := self._environ.get("AWS_LAMBDA_MAX_CONCURRENCY"):
            self._become_worker(module, concurrency)
        while not self._stopping:
            self._serve(handle, self._next())
        sys.exit(0)

    def _serve(self, handle: StreamHandler, invocation: Invocation) -> None:
        now = time.time()
        self._api.until = time.monotonic() + for_client(invocation.deadline, now) - now
        response = ResponseStream(self._api, invocation)
        if self._is_one_of_several:
            log_of_invocation(invocation.id)
        try:
            handle(invocation, response)
            if not (response.ended or response.broken):
                raise RuntimeError("the handler returned without ending its response")
        except Exception as error:  # noqa: BLE001  # the outermost edge: the sandbox serves the next one
            log("ERROR", "The handler failed", error=type(error).__name__, trace=trace_of(error))
            if not response.ended:
                response.fail(error)

    def _become_worker(self, module: ModuleType, concurrency: str) -> None:
        """Become one of several processes that ask for invocations, as on Lambda's managed instances."""
        from proxy.workers.supervisor import Supervisor, take_output, workers_of  # noqa: PLC0415  # only there

        self._is_one_of_several = True
        left = Supervisor(workers_of(concurrency), self._on_sigterm, module.tell_of).run()
        self._api.close()
        if path := self._environ.get("_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET"):
            take_output(path)
        module.begin_worker(left)

    def _load(self) -> ModuleType:
        try:
            return importlib.import_module(self._environ["_HANDLER"].rpartition(".")[0])
        except BaseException as error:  # noqa: BLE001  # whatever it is, the owner has to read it
            log("CRITICAL", "The function could not start", error=str(error), trace=trace_of(error))
            report = error_report(error, "Runtime.ImportModuleError" if isinstance(error, ImportError) else None)
            self._api.post_error("/init/error", report)
            sys.exit(1)

    def _next(self) -> Invocation:
        """The next invocation. If the Runtime API gives none, it is asked again a few times, and then the sandbox
        ends.
        """
        for pause in _PAUSES:
            head, body = self._ask("/invocation/next")
            invocation = invocation_of(head, body, time.time()) if head else None
            if invocation:
                self._waiting = False
                if invocation.trace_id:
                    self._environ["_X_AMZN_TRACE_ID"] = invocation.trace_id
                else:
                    self._environ.pop("_X_AMZN_TRACE_ID", None)
                return invocation
            if head:
                log("ERROR", "The Runtime API gave an invocation without an id, which nobody can answer")
            self._sleep(pause)
        return self._give_up()

    def _ask(self, path: str) -> tuple[Head | None, bytearray]:
        """The Runtime API's answer to a GET, however long it takes; the head is None if the answer was of no use."""
        self._waiting, self._api.until = True, math.inf
        try:
            self._api.ask(path)
            head, body = self._api.answer("GET")
            if head.status == 200:
                return head, body
            reason = f"HTTP {head.status}"
        except HttpError as error:
            self._api.close()
            reason = repr(error)
        log("WARN", "The Runtime API gave no answer that can be used", path=path, reason=reason)
        return None, bytearray()

    def _give_up(self) -> NoReturn:
        log("CRITICAL", "The Runtime API gives no invocation: the sandbox ends")
        sys.exit(1)

    def _snapshot(self, module: ModuleType) -> None:
        """Wait while a SnapStart snapshot is taken, then let the module renew what copies of it must not share."""
        for pause in _PAUSES:
            if self._ask("/restore/next")[0]:
                break
            self._sleep(pause)
        else:
            self._give_up()
        random.seed()  # or all copies would choose the same shards, and pause as long as each other
        try:
            module.after_restore()
        except Exception as error:  # noqa: BLE001  # as above
            log("CRITICAL", "The function could not be restored", trace=trace_of(error))
            self._api.post_error("/restore/error", error_report(error, "Runtime.AfterRestoreError"))
            sys.exit(65)

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._waiting:
            sys.exit(0)


if __name__ == "__main__":
    Runtime(os.environ).run()
