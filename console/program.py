"""The process of `openai-proxy`: how it ends when it is interrupted, when the disk is full, and when nobody reads its
output any more.

Its one rule: none of these prints a traceback. It loads only what every Python has loaded already, because Ctrl-C may
come while the rest is loaded: `signal` and `typing` would load thirty other modules.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signals
else:
    import _signal as signals

CANNOT, INTERRUPTED = 2, 130
_MOMENT_SECONDS = 0.005
_SAYS = b"\nopenai-proxy: interrupted.\n"


def main() -> int:
    """Run the command line. Returns the exit code."""
    signals.signal(signals.SIGINT, _end)
    if mask := getattr(signals, "pthread_sigmask", None):  # whoever starts this may hold signals back until now
        mask(signals.SIG_UNBLOCK, {signals.SIGINT})
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    from console.command_line import main as run  # noqa: PLC0415

    try:
        code = run(began=_begin)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    signals.signal(signals.SIGINT, _end)
    if hasattr(signals, "SIGALRM"):
        signals.signal(signals.SIGALRM, signals.SIG_IGN)
    if code == INTERRUPTED:
        _end()  # threads that wait for an answer of AWS are not waited for
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except OSError as error:
            if stream is sys.stdout and not code:  # what argparse prints, such as help: it says nothing of it itself
                code = CANNOT
                os.write(2, f"openai-proxy: The output cannot be written: {error.strerror}.\n".encode())
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    signals.signal(
        signals.SIGINT, signals.SIG_IGN
    )  # all is done; while Python ends, Ctrl-C would only kill it silently
    return code


def _begin() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt, so that a command can clean up what it has begun."""
    signals.signal(signals.SIGINT, signals.default_int_handler)
    sys.unraisablehook = _ignored


def _ignored(what: "sys.UnraisableHookArgs") -> None:
    """Python drops what a finalizer or the callback of a weak reference raises: an interrupt that met one comes again a
    moment later, until it meets the command itself.
    """
    if not issubclass(what.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(what)
    elif hasattr(signals, "setitimer"):
        signals.signal(signals.SIGALRM, signals.default_int_handler)
        signals.setitimer(signals.ITIMER_REAL, _MOMENT_SECONDS)
    else:
        _end()


def _end(*_: object) -> None:
    """Print one line, and end the process."""
    try:
        os.write(2, _SAYS)
    finally:
        os._exit(INTERRUPTED)
