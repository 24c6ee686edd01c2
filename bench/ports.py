"""Ports of this machine for what is started here: no two processes are given the same one."""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_NOT_GIVEN_AWAY = range(20_000, 32_000)
"""Linux takes ports from 32768 on for connections and for listeners that ask for any, other systems from 49152 on."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that nobody is given before they are used: whoever else asks here, in whatever
    checkout, is given others until this process ends.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_NOT_GIVEN_AWAY, len(_NOT_GIVEN_AWAY)):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _reserve(port)
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"There are no {count} free ports.")


def free_port() -> int:
    """A port that nobody listens on."""
    return free_ports(1)[0]


def _reserve(port: int) -> None:
    """Lock a file that stands for a port, until this process ends. Raises OSError if it is locked."""
    folder = Path(tempfile.gettempdir(), "openai-proxy-ports")
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
