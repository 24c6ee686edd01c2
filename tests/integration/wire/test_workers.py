"""Several workers in one environment, against a hostile Runtime API that hands out as many invocations at once."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Connection, Received, ScriptedServer

ROOT = Path(__file__).parents[3]
API = "/2018-06-01/runtime"
WORKERS = 3
PATIENCE = 30


class HostileApi:
    """Hands out events with the ids that they are given, and keeps each answer as soon as its head has come."""

    def __init__(self) -> None:
        self.asked: queue.Queue[None] = queue.Queue()
        self.events: queue.Queue[tuple[str, str, bytes]] = queue.Queue()
        self.posts: queue.Queue[Received] = queue.Queue()
        self.answers: dict[str, str] = {}

    def __call__(self, connection: Connection, request: Received) -> None:
        if request.method == "POST":
            self.posts.put(request)
            connection.answer(b"{}", self.answers.get(request.target.split("/")[-2], "202 Accepted"))
            return
        self.asked.put(None)
        request_id, once, event = self.events.get()
        head = {"Lambda-Runtime-Aws-Request-Id": request_id, "Lambda-Runtime-Invocation-Id": once}
        connection.answer(event, more="".join(f"{name}: {value}\r\n" for name, value in head.items()))

    def wait_for(self, workers: int) -> None:
        """Until so many more polls have come."""
        for _ in range(workers):
            self.asked.get(timeout=PATIENCE)

    def invoke(self, request_id: str, once: str = "", **event: object) -> None:
        self.events.put((request_id, once, json.dumps(event).encode()))

    def wait_until_taken(self) -> None:
        """Until each event is with a worker, so that none that has done its first is given a second."""
        deadline = time.monotonic() + PATIENCE
        while not self.events.empty():
            assert time.monotonic() < deadline, "nobody takes an event"
            time.sleep(0.005)

    def answer(self) -> Received:
        return self.posts.get(timeout=PATIENCE)


@contextmanager
def environment(
    api: HostileApi, folder: Path, workers: str = str(WORKERS), **environ: str
) -> Generator[subprocess.Popen[bytes]]:
    with ScriptedServer(api) as server, (folder / "log").open("ab") as log:
        environment = {
            "PATH": os.environ["PATH"],
            "_HANDLER": "worker_behaviours.handler",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.port}",
            "AWS_LAMBDA_MAX_CONCURRENCY": workers,
            "LAMBDA_TASK_ROOT": str(ROOT / "functions"),
            "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT / 'tests' / 'data' / 'sandbox'}",
            "WORKERS_FOLDER": str(folder),
            **environ,
        }
        process = subprocess.Popen(
            [str(ROOT / "functions/proxy/bootstrap"), sys.executable],
            env=environment,
            stdout=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            stop(process)
            for _ in range(2 * api.asked.qsize() + 2 * WORKERS):  # for the scripts that still wait for one
                api.invoke("")


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def told(folder: Path, what: str = "begin") -> list[list[str]]:
    """What workers said when they began: process id and what they found."""
    file = folder / what
    return [line.split(" ", 1) for line in file.read_text().splitlines()] if file.exists() else []


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_each_worker_has_one_invocation_and_nothing_that_another_one_has(tmp_path: Path) -> None:
    api, gate = HostileApi(), tmp_path / "gate"
    with environment(api, tmp_path) as process:
        api.wait_for(WORKERS)
        for number in range(WORKERS):  # callers choose request ids, and may choose the same
            api.invoke("same-id", f"once-{number}", do="ids", after=str(gate))
        api.wait_until_taken()
        gate.touch()
        answers = [api.answer() for _ in range(WORKERS)]
        api.wait_for(WORKERS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0
    assert sorted(answer.headers["lambda-runtime-invocation-id"] for answer in answers) == [
        f"once-{number}" for number in range(WORKERS)
    ]
    made = [json.loads(answer.body.partition(b"\0" * 8)[2]) for answer in answers]
    for same_kind in zip(*made, strict=True):
        assert len(set(same_kind)) == WORKERS
    assert process.pid not in {process_id for process_id, *_ in made}
    assert [line["requestId"] for line in lines(tmp_path)] == ["same-id"] * WORKERS


def test_a_worker_that_is_killed_is_replaced_and_its_successor_finds_what_it_left(tmp_path: Path) -> None:
    api, gate = HostileApi(), tmp_path / "gate"
    with environment(api, tmp_path):
        api.wait_for(WORKERS)
        api.invoke("spared", do="stream", pieces=["a", "b"], after=str(gate))
        api.invoke("killed", do="leave", text="of the killed one", stops=False)
        api.wait_for(1)
        for name in ("one", "two"):
            api.invoke(name, do="context")
        assert {api.answer().target for _ in range(2)} == {
            f"{API}/invocation/{name}/response" for name in ("one", "two")
        }
        gate.touch()
        answer = api.answer()
        assert (answer.target, answer.body[-2:]) == (f"{API}/invocation/spared/response", b"ab")
    assert [left for _, left in told(tmp_path)] == [""] * WORKERS + ["of the killed one"]
    assert len({worker for worker, _ in told(tmp_path)}) == WORKERS + 1
    assert [line["status"] for line in lines(tmp_path)] == [-signal.SIGKILL]


def test_sigterm_ends_those_that_wait_at_once_and_those_at_work_when_they_are_done(tmp_path: Path) -> None:
    api, gate = HostileApi(), tmp_path / "gate"
    with environment(api, tmp_path) as process:
        api.wait_for(WORKERS)
        api.invoke("long", do="ids", after=str(gate))
        wait_until(process, lambda: bool(lines(tmp_path)))  # a worker has it
        api.invoke("killed", do="leave", text="told in the end", stops=True)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(process, lambda: len(children.read_text().split()) == 1)
        gate.touch()
        assert api.answer().target == f"{API}/invocation/long/response"
        assert process.wait(timeout=PATIENCE) == 0
    assert told(tmp_path, "tell") == [[str(process.pid), "told in the end"]]
    assert len(told(tmp_path)) == WORKERS, "none is started again"


def wait_until(process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_workers_that_end_at_once_are_not_started_for_ever(tmp_path: Path) -> None:
    with environment(HostileApi(), tmp_path, "2", FAIL_WORKER="1") as process:
        assert process.wait(timeout=PATIENCE) == 1
    assert len(told(tmp_path)) == 2 * 5
    assert [line["level"] for line in lines(tmp_path)] == ["ERROR"] * 10 + ["CRITICAL"]


@pytest.mark.parametrize("status", ["410 Gone", "400 Bad Request"])
def test_an_answer_that_comes_too_late_is_passed_over_by_the_same_worker(tmp_path: Path, status: str) -> None:
    api = HostileApi()
    api.answers["late"] = status
    with environment(api, tmp_path, "1"):
        api.invoke("late", do="stream", pieces=["a"])
        api.invoke("next", do="context")
        targets = [api.answer().target for _ in range(2)]
    assert targets == [f"{API}/invocation/{name}/response" for name in ("late", "next")]
    assert len(told(tmp_path)) == 1


def test_each_worker_writes_its_log_into_a_stream_of_its_own(tmp_path: Path) -> None:
    api, gate = HostileApi(), tmp_path / "gate"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as streams:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        listener.settimeout(PATIENCE)
        with environment(api, tmp_path, "2", _LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET=str(tmp_path / "socket")):
            api.wait_for(2)
            for number in range(2):
                api.invoke(f"id-{number}", do="ids", after=str(gate))
            api.wait_until_taken()
            gate.touch()
            for _ in range(2):
                api.answer()
            accepted = [streams.enter_context(listener.accept()[0]) for _ in range(4)]
        found = [streams.enter_context(each.makefile()).read() for each in accepted]
    assert sorted(json.loads(text)["requestId"] for text in found if text) == ["id-0", "id-1"]
    assert (tmp_path / "log").read_bytes() == b""


def test_a_worker_without_a_stream_of_its_own_says_so_and_serves(tmp_path: Path) -> None:
    api = HostileApi()
    with environment(api, tmp_path, "1", _LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET=str(tmp_path / "none")):
        api.invoke("id", do="context")
        api.answer()
    assert [line["level"] for line in lines(tmp_path)] == ["WARN"]
