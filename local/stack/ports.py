"""Ports of this machine."""

import asyncio
import socket
import time
from collections.abc import Mapping

from local.stack.settings import HOST

_POLL_SECONDS = 0.05
_BACKLOG = 128


class PortTakenError(Exception):
    """A port that the stack needs is in use. The message names it and the remedy."""


def require_free(ports: Mapping[str, int]) -> None:
    """Check that the ports, by the variables that set them, are free and differ. Raises PortTakenError."""
    for variable, port in ports.items():
        if list(ports.values()).count(port) > 1:
            raise PortTakenError(f"Port {port} is wanted twice. Choose another for one: make run {variable}=…")
        if not _is_free(port):
            other = next((each for each in range(port + 1, 65536) if each not in ports.values() and _is_free(each)), 0)
            raise PortTakenError(
                f"Port {port} is in use. Stop what listens on it, or choose another: make run {variable}={other}"
            )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def listener(variable: str, port: int) -> socket.socket:
    """A socket that listens on `port`, for a server to inherit: from now on nobody else can have the port, not even
    while that server starts again. Raises PortTakenError.
    """
    try:
        return socket.create_server((HOST, port), backlog=_BACKLOG)
    except OSError:
        require_free({variable: port})
        raise


async def wait_for_answer(port: int, seconds: float) -> bool:
    """Wait until a server answers HTTP on `port`, but no longer than `seconds`. Whether it does."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            if await asyncio.wait_for(_answers(port), left):
                return True
        except TimeoutError:
            break
        await asyncio.sleep(_POLL_SECONDS)
    return False


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(b"HEAD / HTTP/1.0\r\n\r\n")
            return await reader.read(1) != b""
        finally:
            writer.close()
    except OSError:
        return False
