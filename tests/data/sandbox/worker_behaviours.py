"""A handler module for several workers, whose behaviour the event chooses. A folder gets what workers find."""

import json
import os
import random
import secrets
import signal
import ssl
import uuid
from pathlib import Path

import behaviours
from openai_proxy.events.ulid import new_ulid
from proxy.log import log
from proxy.runtime_api import Invocation, ResponseStream
from proxy.workers.memory import SharedText

_own: list[SharedText] = []


def begin_worker(left: SharedText) -> None:
    """Say what is found, and end if that is wanted."""
    _say("begin", left)
    if os.environ.get("FAIL_WORKER"):
        os._exit(9)
    _own.append(left)


def tell_of(left: SharedText) -> None:
    """Say what is found, if anything is."""
    if left.get():
        _say("tell", left)


def _say(what: str, left: SharedText) -> None:
    with (Path(os.environ["WORKERS_FOLDER"]) / what).open("a") as file:
        file.write(f"{os.getpid()} {left.get().decode()}\n")
    left.clear()


def stream(invocation: Invocation, response: ResponseStream) -> None:
    event = invocation.event
    match event["do"]:
        case "ids":
            log("INFO", "made some")
            made = [random.random(), new_ulid(0.0), str(uuid.uuid4()), secrets.token_hex(8), ssl.RAND_bytes(8).hex()]
            response.start(200, {})
            response.write(json.dumps([os.getpid(), *made]).encode())
            behaviours.prepare(after=event["after"])
            response.end()
        case "leave":
            _own[-1].put(event["text"].encode())
            if event["stops"]:
                os.kill(os.getppid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            behaviours.stream(invocation, response)
