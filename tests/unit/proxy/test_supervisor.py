"""The supervisor of several workers on a machine of the test: every step that it takes, in order."""

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from proxy.workers.memory import SharedText
from proxy.workers.supervisor import Supervisor, take_output, workers_of

TERM, CHILD, KILL = signal.SIGTERM, signal.SIGCHLD, signal.SIGKILL
Step = tuple[Any, ...]


class Machine:
    """Processes, signals and a clock. `happens` is what comes while the supervisor waits, each after some seconds.

    `forks` are what becomes of each try to start a process: an error, or 0 in the new one; else a process id.
    """

    def __init__(self, happens: Sequence[Step] = (), forks: Sequence[OSError | int] = ()) -> None:
        self.happens, self.forks = list(happens), list(forks)
        self.steps: list[Step] = []
        self.now = 5000.0
        self.handlers: dict[int, Any] = {}
        self.blocked: set[int] = set()
        self.wakeup = -1
        self.ended: list[tuple[int, int]] = []
        self.process = 100

    def fork(self) -> int:
        assert self.blocked == {TERM, CHILD}, "a signal now would reach a process that does not know of it"
        found = self.forks.pop(0) if self.forks else self.process + 1
        if isinstance(found, OSError):
            self.steps.append(("no fork",))
            raise found
        if found:
            self.process = found
            self.steps.append(("fork", found))
        return found

    def select(self, readers: list[int], _writers: object, _errors: object, seconds: float | None) -> None:
        assert self.blocked == set()
        assert set(self.handlers) == {TERM, CHILD}
        assert not is_readable(readers[0]), "what was told before has been read"
        self.steps.append(("wait", None if seconds is None else round(seconds, 6)))
        after, what, *more = self.happens.pop(0)
        self.now += after
        if what == "ends":
            self.ended.append((more[0], more[1]))
            self._signal(CHILD)
        elif what == "told":
            self._signal(TERM)
        else:
            assert seconds is not None

    def _signal(self, number: int) -> None:
        os.write(self.wakeup, b"\0")
        self.handlers[number](number, None)

    def waitpid(self, process: int, options: int) -> tuple[int, int]:
        assert (process, options) == (-1, os.WNOHANG)
        return self.ended.pop(0) if self.ended else (0, 0)

    def mask(self, how: int, numbers: Sequence[int]) -> None:
        self.blocked = self.blocked | {*numbers} if how == signal.SIG_BLOCK else self.blocked - {*numbers}

    def wakes(self, fd: int, *, warn_on_full_buffer: bool = True) -> None:
        assert fd == -1 or (not os.get_blocking(fd) and not warn_on_full_buffer)
        self.wakeup = fd


def is_readable(fd: int) -> bool:
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(0))


def code(number: int) -> int:
    """The status that `waitpid` has for an exit code."""
    return number << 8


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], Machine]:
    def run_on(machine: Machine) -> Machine:
        monkeypatch.setattr(os, "fork", machine.fork)
        monkeypatch.setattr(os, "kill", lambda *told: machine.steps.append(("kill", *told)))  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
        monkeypatch.setattr(os, "waitpid", machine.waitpid)
        monkeypatch.setattr(select, "select", machine.select)
        monkeypatch.setattr(signal, "signal", machine.handlers.__setitem__)
        monkeypatch.setattr(signal, "pthread_sigmask", machine.mask)
        monkeypatch.setattr(signal, "set_wakeup_fd", machine.wakes)
        monkeypatch.setattr(time, "monotonic", lambda: machine.now)
        return machine

    return run_on


@pytest.fixture
def made() -> Iterator[list[Supervisor]]:
    """Those whose pipes are to be closed."""
    made: list[Supervisor] = []
    yield made
    for each in made:
        for fd in (each._reader, each._writer):
            if Path(f"/proc/self/fd/{fd}").exists():
                os.close(fd)


def ended(machine: Machine, count: int, made: list[Supervisor], capsys: pytest.CaptureFixture[str]) -> list[Step]:
    """The steps of a supervisor of `count` workers until it ends, with what it logs and its exit code."""

    def tell(left: SharedText) -> None:
        machine.steps.append(("tell", made[0]._memories.index(left)))

    made.append(Supervisor(count, print, tell))
    with pytest.raises(SystemExit) as end:
        made[0].run()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(line["level"], line["message"], line.get("status", line.get("reason"))) for line in lines]
    return [*machine.steps, *told, ("exit", end.value.code)]


REPLACED = "A worker has ended: another one takes its place"


def test_workers_that_end_are_replaced_until_the_environment_is_told_to_stop(
    on: Callable[[Machine], Machine], made: list[Supervisor], capsys: pytest.CaptureFixture[str]
) -> None:
    happens = [
        (3.0, "ends", 101, KILL),
        (1.0, "told"),
        (1.0, "told"),
        (0.5, "ends", 102, 0),
        (0.5, "ends", 103, TERM),
    ]
    assert ended(on(Machine(happens)), 2, made, capsys) == [
        *[("fork", 101), ("fork", 102), ("wait", None), ("fork", 103), ("wait", None)],
        *[("kill", 102, TERM), ("kill", 103, TERM), ("wait", None), ("wait", None), ("wait", None)],
        *[("tell", 0), ("tell", 1), ("ERROR", REPLACED, -KILL), ("exit", 0)],
    ]


def test_one_that_ends_again_and_again_is_started_later_and_later_unless_it_has_worked(
    on: Callable[[Machine], Machine], made: list[Supervisor], capsys: pytest.CaptureFixture[str]
) -> None:
    happens = [
        *[(0.5, "ends", 101, code(7)), (0.5, "ends", 102, code(7)), (0.1, "time"), (0.5, "ends", 103, 0)],
        *[(0.2, "time"), (10.0, "ends", 104, 0), (1.0, "told"), (1.0, "ends", 105, TERM)],
    ]
    assert ended(on(Machine(happens)), 1, made, capsys) == [
        *[("fork", 101), ("wait", None), ("fork", 102), ("wait", None), ("wait", 0.1), ("fork", 103)],
        *[("wait", None), ("wait", 0.2), ("fork", 104), ("wait", None), ("fork", 105), ("wait", None)],
        *[("kill", 105, TERM), ("wait", None), ("tell", 0)],
        *[("ERROR", REPLACED, 7), ("ERROR", REPLACED, 7), ("exit", 0)],
    ]


def test_several_that_end_at_once_are_all_replaced(
    on: Callable[[Machine], Machine], made: list[Supervisor], capsys: pytest.CaptureFixture[str]
) -> None:
    machine = on(Machine([(3.0, "ends", 102, 0), (1.0, "told"), (1.0, "ends", 103, 0), (1.0, "ends", 104, 0)]))
    machine.ended.append((101, 0))  # has no signal of its own: the kernel makes one of two
    steps = ended(machine, 2, made, capsys)
    assert [step for step in steps if step[0] in ("fork", "exit")] == [
        *[("fork", 101), ("fork", 102), ("fork", 103), ("fork", 104), ("exit", 0)]
    ]


def test_an_environment_in_which_no_worker_can_be_started_ends(
    on: Callable[[Machine], Machine], made: list[Supervisor], capsys: pytest.CaptureFixture[str]
) -> None:
    happens = [(seconds, "time") for seconds in (0.0, 0.1, 0.2, 0.4)]
    tries = [[("no fork",), ("wait", seconds)] for seconds in (0.0, 0.1, 0.2, 0.4)]
    assert ended(on(Machine(happens, [OSError("no memory")] * 5)), 1, made, capsys) == [
        *[step for each in tries for step in each],
        *[("no fork",), ("tell", 0)],
        *[("ERROR", "A worker could not be started", "no memory")] * 5,
        ("CRITICAL", "No worker stays alive: the environment ends", None),
        ("exit", 1),
    ]


def test_a_stop_that_comes_while_workers_are_started_starts_no_other(
    on: Callable[[Machine], Machine], made: list[Supervisor], capsys: pytest.CaptureFixture[str]
) -> None:
    machine = on(Machine([(0.0, "ends", 101, TERM)]))

    def stopping(how: int, numbers: Sequence[int]) -> None:
        Machine.mask(machine, how, numbers)
        if not machine.blocked:
            machine.handlers[TERM](TERM, None)
            machine.handlers[CHILD](CHILD, None)

    signal.pthread_sigmask = cast("Any", stopping)  # of the fixture, which puts the real one back
    assert ended(machine, 2, made, capsys) == [
        *[("fork", 101), ("kill", 101, TERM), ("wait", None), ("tell", 0), ("tell", 1), ("exit", 0)]
    ]


def test_a_worker_has_its_place_and_nothing_of_the_supervisor(
    on: Callable[[Machine], Machine], made: list[Supervisor]
) -> None:
    machine = on(Machine(forks=[101, 0]))
    told: list[Step] = []
    supervisor = Supervisor(3, lambda *of: told.append(of), lambda _: None)
    made.append(supervisor)
    assert supervisor.run() is supervisor._memories[1]
    assert len({id(memory) for memory in supervisor._memories}) == 3
    assert (machine.handlers[CHILD], machine.blocked, machine.wakeup) == (signal.SIG_DFL, set(), -1)
    machine.handlers[TERM](TERM, None)
    assert told == [(TERM, None)]
    for fd in (supervisor._reader, supervisor._writer):
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_both_outputs_of_a_worker_go_where_lambda_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[tuple[bool, int]] = []
    monkeypatch.setattr(os, "dup2", lambda fd, number: joined.append((os.fstat(fd).st_size == 0, number)))  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        take_output(str(tmp_path / "s"))
        listener.settimeout(5)
        streams = [listener.accept()[0] for _ in range(2)]
    assert joined == [(True, 1), (True, 2)]
    for each in streams:
        each.close()


def test_a_worker_without_such_a_stream_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take_output(str(tmp_path / "none"))
    line = json.loads(capsys.readouterr().out)
    assert line.pop("timestamp")
    assert line == {
        "level": "WARN",
        "message": "A worker has no stream of its own for its log",
        "reason": "[Errno 2] No such file or directory",
    }


@pytest.mark.parametrize("workers", ["1", "64", "1600", "0064"])
def test_a_number_that_lambda_gives_is_that_many(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert workers_of(workers) == int(workers)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("workers", ["0", "-1", "many", "", "\u0663", "1601", "00001", "9" * 99])
def test_a_number_that_lambda_does_not_give_is_one_worker(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert workers_of(workers) == 1
    line = json.loads(capsys.readouterr().out)
    assert line.pop("timestamp")
    message = "AWS_LAMBDA_MAX_CONCURRENCY is no number of workers: there will be one"
    assert line == {"level": "ERROR", "message": message, "value": workers[:32]}
