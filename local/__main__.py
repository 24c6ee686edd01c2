"""`python -m local run` starts here: it reads the command line, runs the stack and handles signals."""

import asyncio
import contextlib
import os
import signal
import sys

from openai_proxy.servers import ServersFileError

from local.faults.rules import FaultsFileError
from local.http import loop
from local.lambda_.sandboxes import SandboxError
from local.stack.above import interrupted
from local.stack.ports import PortTakenError
from local.stack.processes import CommandError
from local.stack.settings import Settings, parse
from local.stack.stack import Stack


def main() -> int:
    """Run the stack until it is told to stop. The exit status is 0 then, 2 when it could not start or go on."""
    settings = parse(sys.argv[1:], os.environ)
    try:
        loop.run(_run(settings))
    except (CommandError, FaultsFileError, PortTakenError, SandboxError, ServersFileError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    return 0


async def _run(settings: Settings) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A script does this with `make run &`. This process listens again; the make above it goes on ignoring SIGINT.
        _say(f"SIGINT is ignored by what started this; `kill {os.getpid()}` stops everything.")
    stack = asyncio.create_task(Stack(settings, os.environ, _say).run())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # It is cancelled once: a second signal while everything is being stopped would leave something running.
        asyncio.get_running_loop().add_signal_handler(number, _cancel_once, stack)
    above = asyncio.create_task(interrupted(os.getppid()))
    above.add_done_callback(lambda told: None if told.cancelled() else _cancel_once(stack))
    try:
        await stack
    except asyncio.CancelledError:
        _say("Stopped.")
    finally:
        above.cancel()


def _cancel_once(task: asyncio.Task[None]) -> None:
    if not task.cancelling():
        task.cancel()


def _say(line: str) -> None:
    # The reader of this output may have gone. The stack must stop what it started all the same.
    with contextlib.suppress(OSError):
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
