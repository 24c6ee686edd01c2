"""The local Runtime API that hands out many invocations at once, with the proxy's runtime at its other end."""

import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path

import pytest

from local.lambda_.environment import Environment
from local.lambda_.invocation import Ended, Failed, Invocation, Part
from local.lambda_.sandboxes import Launch, SandboxError

ROOT = Path(__file__).parents[3]
WORKERS = 2
PATIENCE = 30


def in_a_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        asyncio.run(test(**fixtures))

    return run


@contextlib.asynccontextmanager
async def environment(folder: Path, seconds: float = 60.0, **environ: str) -> AsyncGenerator[Environment]:
    variables = {
        "PATH": os.environ["PATH"],
        "_HANDLER": "worker_behaviours.handler",
        "AWS_LAMBDA_MAX_CONCURRENCY": str(WORKERS),
        "LAMBDA_TASK_ROOT": str(ROOT / "functions"),
        "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT / 'tests' / 'data' / 'sandbox'}",
        "WORKERS_FOLDER": str(folder),
        **environ,
    }
    launch = Launch((ROOT / "functions/proxy/bootstrap", sys.executable), variables, folder, folder / "log")
    subject = Environment(launch, "arn:aws:lambda:us-east-1:000000000000:function:f", timeout=seconds, report=print)
    try:
        await subject.open()
        yield subject
    finally:
        await subject.close()


async def invoke(subject: Environment, **event: object) -> Invocation:
    """Hand an event to a worker, as soon as one waits."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await subject.invoke(json.dumps(event).encode(), "")
            except SandboxError:
                await asyncio.sleep(0.005)


async def parts(invocation: Invocation) -> list[Part]:
    found: list[Part] = []
    async with asyncio.timeout(PATIENCE):
        while not found or not isinstance(found[-1], Ended | Failed):
            found.append(await invocation.get())
    return found


@in_a_loop
async def test_as_many_invocations_as_workers_run_at_once_and_no_more(tmp_path: Path) -> None:
    async with environment(tmp_path) as subject:
        running = [await invoke(subject, do="ids", after=str(tmp_path / "gate")) for _ in range(WORKERS)]
        with pytest.raises(SandboxError, match="busy"):
            await subject.invoke(b"{}", "")
        (tmp_path / "gate").touch()
        answers = [await parts(each) for each in running]
    bodies = [b"".join(each for each in answer if isinstance(each, bytes)).rpartition(b"\0")[2] for answer in answers]
    made = [json.loads(body) for body in bodies]
    assert len({worker for worker, *_ in made}) == WORKERS
    assert [answer[-1] for answer in answers] == [Ended()] * WORKERS


@in_a_loop
async def test_the_invocation_of_a_worker_that_ends_fails_alone(tmp_path: Path) -> None:
    async with environment(tmp_path) as subject:
        spared = await invoke(subject, do="stream", pieces=["a"], after=str(tmp_path / "gate"))
        killed = await invoke(subject, do="leave", text="x", stops=False)
        assert await parts(killed) == [Failed("Runtime.ExitError")]
        assert (await parts(await invoke(subject, do="context")))[-1] == Ended()
        (tmp_path / "gate").touch()
        assert (await parts(spared))[-2:] == [b"a", Ended()]


@in_a_loop
async def test_what_takes_too_long_fails_and_its_worker_goes_on(tmp_path: Path) -> None:
    async with environment(tmp_path, seconds=1.5) as subject:
        slow = await invoke(subject, do="stream", pieces=["a"], after=str(tmp_path / "gate"))
        assert await parts(slow) == [Failed("Sandbox.Timedout")]
        (tmp_path / "gate").touch()
        for _ in range(2 * WORKERS):
            assert (await parts(await invoke(subject, do="context")))[-1] == Ended()
    assert len((tmp_path / "begin").read_text().splitlines()) == WORKERS


@in_a_loop
async def test_an_environment_that_ends_is_started_again(tmp_path: Path) -> None:
    async with environment(tmp_path) as subject:
        await parts(await invoke(subject, do="context"))
        worker = int((tmp_path / "begin").read_text().split()[0])
        os.killpg(os.getpgid(worker), signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):  # what its workers were waiting for fails
            while (await parts(await invoke(subject, do="context")))[-1] != Ended():
                pass
    assert len((tmp_path / "begin").read_text().splitlines()) > 1


@pytest.mark.parametrize(
    ("environ", "why"),
    [({"FAIL_INIT": "raise"}, "Function.ValueError"), ({"_HANDLER": "none.handler"}, "Runtime.ImportModuleError")],
)
@in_a_loop
async def test_a_proxy_that_cannot_start_is_known_at_once(tmp_path: Path, environ: dict[str, str], why: str) -> None:
    with pytest.raises(SandboxError, match="did not start") as raised:
        async with environment(tmp_path, 60.0, **environ):
            pass
    assert raised.value.error_type == why
