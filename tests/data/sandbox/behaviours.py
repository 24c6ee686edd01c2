"""A handler module for the streaming runtime whose behaviour the event chooses."""

import os
import signal
import sys
import time
from itertools import count
from pathlib import Path

from proxy.runtime_api import Invocation, ResponseStream

if os.environ.get("FAIL_INIT") == "raise":
    raise ValueError("no configuration")
if os.environ.get("FAIL_INIT") == "exit":
    sys.exit(3)

_served = count(1)


def after_restore() -> None:
    if os.environ.get("FAIL_RESTORE"):
        raise OSError("cannot renew")


def prepare(stops: bool = False, after: str | None = None) -> None:
    """What happens before a stream begins: the sandbox is told to stop, or a file is waited for."""
    if stops:
        os.kill(os.getpid(), signal.SIGTERM)
    while after and not Path(after).exists():
        time.sleep(0.005)


def stream(invocation: Invocation, response: ResponseStream) -> None:
    served = next(_served)
    event = invocation.event
    match event["do"]:
        case "stream":
            prepare(event.get("stops"), event.get("after"))
            response.start(200, {"content-type": "text/event-stream"}, ["a=1", "b=2"])
            for piece in event["pieces"]:
                response.write(piece.encode())
            response.end()
        case "fail-before":
            raise LookupError("secret detail")
        case "fail-after":
            response.start(200, {})
            response.write(b"half of ")
            raise ConnectionError("secret detail")
        case "work-after":
            response.start(200, {})
            response.write(b"done")
            response.end()
            with Path(event["file"]).open("a") as file:
                file.write(f"{invocation.id}\n")
        case "empty":
            response.start(event["status"], {})
            response.end()
        case "never-end":
            response.start(200, {})
            response.write(b"open")
        case "context":
            facts = [invocation.id, str(invocation.deadline > time.time()), os.environ.get("_X_AMZN_TRACE_ID", "")]
            response.start(200, {})
            response.write(" ".join([*facts, str(served), str(os.getpid())]).encode())
            response.end()
        case "until-broken":
            response.start(200, {})
            while not response.broken:
                response.write(b"." * 65536)
            response.end()
        case "die":
            os._exit(7)
        case unknown:
            raise ValueError(unknown)
