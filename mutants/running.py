"""Runs the chosen tests against each change, in forks of one process that has already loaded them.

Its one rule: whatever a change does (hang, end the process, eat memory, start others) stays in the fork of that change.

A change within a function is made in memory: the code of the loaded function is exchanged. Any other (a constant of a
module, a default, a decorator) needs a session of pytest that loads the changed file, in a copy of the checkout. A test
that notices a change is asked once whether it passes without: if it does not, it counts for nothing.
"""

import gc
import json
import mmap
import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic  # its own: some tests put a clock in its place
from types import CodeType, FunctionType
from typing import NoReturn

import pytest
from hypothesis import Phase, settings

from mutants.changes import Change

MEMORY = 6 << 30
"""Bytes of address space that a fork may have."""

LOADING = 300.0
"""Seconds of CPU that a session may take to load the tests; ten times as long, where it waits."""


@dataclass(frozen=True)
class Verdict:
    """What became of a change: the `test` that noticed it (or the one at which it hung), or None."""

    outcome: str
    test: str | None = None


SURVIVED, NOTICED, HUNG, CANNOT, UNTESTED = "survived", "noticed", "hung", "cannot be exchanged", "run by no test"
Plan = tuple[Change | None, Sequence[str]]
"""A change (None: nothing is changed) and the ids of its tests in their order."""


def options(scratch: Path) -> list[str]:
    """Arguments for pytest: one process, no cache, and temporary folders that are made anew in each fork."""
    loaded_before = "ignore::pytest.PytestAssertRewriteWarning"
    return [
        "-q",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "-W",
        loaded_before,
        f"--basetemp={scratch / 'temporary'}",
    ]


@dataclass(eq=False)  # pytest keeps its plugins in sets, where some tests have a conftest and others have not
class Runner:
    """A pytest plugin that, instead of running the session's tests, tries each plan and says its verdict to `tell`.

    A test has five times the `seconds` that it took when it was recorded, and the `slack`, before it is taken to hang.
    What it waits for a processor that others use counts neither here nor there.
    """

    plans: Sequence[Plan]
    seconds: Mapping[str, float]
    root: Path
    tell: Callable[[int, Verdict], None]
    in_memory: bool = True
    slack: float = 5.0
    reliable: dict[str, bool] = field(default_factory=dict[str, bool])
    failed: bool = False

    def pytest_sessionstart(self) -> None:
        """Property tests need not shrink what they find."""
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile(
            "mutants", parent=settings.get_profile("ci"), phases=phases, report_multiple_bugs=False
        )
        settings.load_profile("mutants")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed:
            return None  # what could not be loaded: pytest ends the session
        for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        items = {item.nodeid: item for item in session.items}
        functions: Functions = loaded_functions(self.root) if self.in_memory else {}
        for number, (change, tests) in enumerate(self.plans):
            self.tell(number, self._judge(change, [items[test] for test in tests if test in items], functions))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed

    def _judge(self, change: Change | None, items: list[pytest.Item], functions: "Functions") -> Verdict:
        while items:
            verdict = self._attempt(change, items, functions)
            if verdict.test is None or not self.in_memory or self._passes_unchanged(verdict.test, items):
                return verdict
            items = [item for item in items if item.nodeid != verdict.test]
        return Verdict(UNTESTED)

    def _passes_unchanged(self, test: str, items: list[pytest.Item]) -> bool:
        if test not in self.reliable:
            alone = [item for item in items if item.nodeid == test]
            self.reliable[test] = self._attempt(None, alone, {}).outcome == SURVIVED
        return self.reliable[test]

    def _attempt(self, change: Change | None, items: list[pytest.Item], functions: "Functions") -> Verdict:
        place = mmap.mmap(-1, 8)  # shared with the fork: which test it is at
        fork = os.fork()
        if fork == 0:
            self._in_fork(change, items, functions, place)
        code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
        with suppress(ProcessLookupError):
            os.killpg(fork, signal.SIGKILL)  # whatever the tests have started
        test = items[int.from_bytes(place[:8], "big")].nodeid
        hung = dict.fromkeys((-signal.SIGALRM, -signal.SIGPROF), Verdict(HUNG, test))
        return {0: Verdict(SURVIVED), _CANNOT: Verdict(CANNOT), **hung}.get(code, Verdict(NOTICED, test))

    def _in_fork(
        self, change: Change | None, items: list[pytest.Item], functions: "Functions", place: mmap.mmap
    ) -> NoReturn:
        try:
            os.setpgid(0, 0)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            if change is not None and self.in_memory and not exchange(change, functions, self.root):
                os._exit(_CANNOT)
            for number, item in enumerate(items):
                place[:8] = number.to_bytes(8, "big")
                end_after(self.slack + 5 * self.seconds.get(item.nodeid, 0))
                following = items[number + 1] if number + 1 < len(items) else None
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if self.failed:
                    os._exit(1)
            os._exit(0)
        finally:
            os._exit(1)


def starved() -> float:
    """Seconds for which this process could have run and others did, as far as the system tells."""
    waited = 0
    for each in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, IndexError, ValueError):  # a thread that has ended meanwhile
            waited += int(each.read_text().split()[1])
    return waited / 1e9


def end_after(seconds: float) -> None:
    """End this process when it has used so many seconds of CPU, or has lived for so long without being starved."""
    began, starved_before = monotonic(), starved()

    def look(_number: int, _frame: object) -> None:
        lived = monotonic() - began - max(0.0, starved() - starved_before)
        if lived >= seconds:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGALRM)
        signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds - lived))

    signal.signal(signal.SIGALRM, look)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # what loops where Python does not listen has no other end
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds)


_CANNOT = 3
Functions = Mapping[tuple[str, str, int], Sequence[FunctionType]]
"""The loaded functions by path, qualified name and first line."""


def loaded_functions(root: Path) -> Functions:
    """Every function of ours that this process has loaded."""
    gc.unfreeze()  # what is frozen is not found
    found: dict[tuple[str, str, int], list[FunctionType]] = {}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename.startswith(str(root)):
            found.setdefault(_name(thing.__code__), []).append(thing)
    gc.freeze()  # no fork looks at all of it
    return found


def exchange(change: Change, functions: Functions, root: Path) -> bool:
    """Give the loaded functions of a module the code of its changed text; False where that cannot be done."""
    path = root / change.module
    old, new = (list(_codes(compile(text, str(path), "exec"))) for text in (path.read_text(), change.source))
    if len(old) != len(new):
        return False
    done = False
    for before, after in zip(old, new, strict=True):
        if before != after:
            for function in functions.get(_name(before), ()):
                if len(before.co_freevars) != len(after.co_freevars):
                    return False
                function.__code__ = after
                done = True
    return done


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _name(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def in_session(runner: Runner, arguments: Sequence[str], report: Path, otherwise: Verdict) -> list[Verdict]:
    """The verdicts of a runner's plans, from a session of pytest in a process of its own that says nothing.

    What the session did not come to, because it could not load the tests or has ended, gets the verdict `otherwise`.
    """

    def session() -> None:
        with report.open("w", buffering=1) as lines:
            tell = runner.tell

            def written(number: int, verdict: Verdict) -> None:
                lines.write(json.dumps((verdict.outcome, verdict.test)) + "\n")
                tell(number, verdict)

            runner.tell = written
            signal.setitimer(signal.ITIMER_PROF, LOADING)
            signal.setitimer(signal.ITIMER_REAL, 10 * LOADING)
            pytest.main(list(arguments), plugins=[runner])

    report.write_text("")
    forked(session)
    verdicts = [Verdict(*json.loads(line)) for line in report.read_text().splitlines()]
    return verdicts + [otherwise] * (len(runner.plans) - len(verdicts))


def forked(work: Callable[[], None]) -> None:
    """Do something in a process of its own, which writes to nowhere, and wait for its end."""
    fork = os.fork()
    if fork == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            screen = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            try:
                work()
            except BaseException:
                os.dup2(screen, 2)
                traceback.print_exc()
                raise
        finally:
            os._exit(0)
    try:
        os.waitpid(fork, 0)
    except BaseException:  # stopped: nothing goes on without the one that waits
        os.kill(fork, signal.SIGKILL)
        raise
