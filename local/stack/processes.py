"""Child processes. Each has a session of its own, so that it is stopped together with everything it started.

On Linux it also ends when this process does, however that ends: a stack that was killed leaves no port in use.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Self


class CommandError(Exception):
    """A command that should have succeeded did not. The message names it and ends with what it said last."""


@cache
def _setpriv() -> str | None:
    """The command of util-linux that has the kernel kill what it starts when its parent has gone."""
    found = shutil.which("setpriv")
    return found if found and sys.platform == "linux" and Path(found).resolve().name == "setpriv" else None


def _ending_with_this(command: Sequence[str | Path]) -> Sequence[str | Path]:
    # What is not there is started as it is, and then says so itself. The kernel tells nothing of a parent that had gone
    # before it was asked: then the command is not started.
    if (setpriv := _setpriv()) and shutil.which(command[0]):
        only_with_parent = ("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid()))
        return (setpriv, "--pdeathsig", "KILL", "--", *only_with_parent, *command)
    return command


class Child:
    """A running process whose output goes to a log file. `exited` is done when it has ended, with its status."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.exited = asyncio.create_task(process.wait())

    @classmethod
    async def start(
        cls,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        inherited: Sequence[int] = (),
    ) -> Self:
        """Start `command`, appending to `log`; it has the descriptors `inherited` under the same numbers.

        Raises OSError when there is no such command.
        """
        with log.open("ab") as output:
            return cls(
                await asyncio.create_subprocess_exec(
                    *_ending_with_this(command),
                    cwd=folder,
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=inherited,
                )
            )

    def has_ended(self) -> bool:
        """Whether the process runs no more. `exited` says so a moment later, when the loop has had its turn."""
        if self.exited.done() or not hasattr(os, "waitid"):
            return self.exited.done()
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # its status has been collected
            return True

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process and to all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def stop(self, grace_seconds: float) -> None:
        """Ask the process to end, wait, and then end it for good."""
        if not self.exited.done():
            self.kill(signal.SIGTERM)
            await asyncio.wait({self.exited}, timeout=grace_seconds)
        self.kill()
        await self.exited


async def run(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path, log: Path) -> None:
    """Run `command` to its end, its output at the end of `log`. Raises CommandError. Cancelling it stops it."""
    child = await Child.start(command, environment, folder, log)
    try:
        status = await asyncio.shield(child.exited)
    finally:
        await child.stop(0)
    if status:
        name = f"{Path(command[0]).name} {command[1]}"
        raise CommandError(f"`{name}` failed (status {status}). The end of {log}:\n{_last_lines(log)}")


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-20:])
