"""The streaming runtime against AWS's own Runtime API: the emulator binary that the SAM CLI ships."""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import samcli

from bench.ports import free_ports

ROOT = Path(__file__).parents[3]
ARCHITECTURE = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
EMULATOR = Path(samcli.__file__).parent / "local" / "rapid" / f"aws-lambda-rie-{ARCHITECTURE}"
SEPARATOR = b"\0" * 8


class Emulator:
    """One sandbox behind AWS's emulator, which gives back the whole response body, prelude included."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url = url
        self.process = process
        self._log = log

    def invoke(self, **event: object) -> httpx.Response:
        return httpx.post(f"{self.url}/2015-03-31/functions/function/invocations", json=event, timeout=30)

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def emulator(tmp_path: Path, **environ: str) -> Generator[Emulator]:
    port, api_port = free_ports(2)
    log = tmp_path / "emulator.log"
    environment = {
        "PATH": os.environ["PATH"],
        "_HANDLER": "behaviours.handler",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "10",
        "LAMBDA_TASK_ROOT": str(ROOT / "functions"),
        "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT / 'tests' / 'data' / 'sandbox'}",
        **environ,
    }
    addresses = [
        "--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{api_port}"
    ]  # fmt: skip
    command = [str(EMULATOR), *addresses, str(ROOT / "functions/proxy/bootstrap"), sys.executable, "bootstrap.py"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, cwd=tmp_path, start_new_session=True
        )
        try:
            wait_for_port(port, process)
            yield Emulator(f"http://127.0.0.1:{port}", process, log)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "the emulator ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail("the emulator does not listen")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("emulator")) as running:
        yield running


def prelude_and_body(answer: httpx.Response) -> tuple[dict[str, object], bytes]:
    prelude, separator, body = answer.content.partition(SEPARATOR)
    assert separator == SEPARATOR
    return json.loads(prelude), body


def test_a_streamed_answer_is_its_prelude_eight_nuls_and_its_pieces(sandbox: Emulator) -> None:
    prelude, body = prelude_and_body(sandbox.invoke(do="stream", pieces=["data: a\n\n", "", "data: ü\n\n"]))
    assert prelude == {"statusCode": 200, "headers": {"content-type": "text/event-stream"}, "cookies": ["a=1", "b=2"]}
    assert body == "data: a\n\ndata: ü\n\n".encode()


def test_a_failure_before_the_first_byte_is_an_error_without_details(sandbox: Emulator) -> None:
    answer = sandbox.invoke(do="fail-before")
    assert answer.json()["errorType"] == "Function.LookupError"
    assert "secret detail" not in answer.text


def test_a_failure_in_mid_stream_ends_the_body_and_reaches_aws_by_trailers(sandbox: Emulator) -> None:
    answer = sandbox.invoke(do="fail-after")
    assert answer.content.endswith(b"half of ")
    assert prelude_and_body(sandbox.invoke(do="context"))[0]["statusCode"] == 200


def test_a_response_that_is_never_ended_is_reported_and_the_sandbox_goes_on(sandbox: Emulator) -> None:
    assert sandbox.invoke(do="never-end").content.endswith(b"open")
    assert sandbox.invoke(do="stream", pieces=["next"]).content.endswith(b"next")


@pytest.mark.parametrize(("status", "body"), [(200, b"\n"), (404, b"\n"), (204, b""), (304, b"")])
def test_an_empty_body_has_one_byte_where_a_body_may_be(sandbox: Emulator, status: int, body: bytes) -> None:
    prelude: dict[str, object] = {"statusCode": status, "headers": {}, "cookies": []}
    assert prelude_and_body(sandbox.invoke(do="empty", status=status)) == (prelude, body)


def test_work_after_the_last_byte_is_done_before_the_next_invocation(sandbox: Emulator, tmp_path: Path) -> None:
    done = tmp_path / "done"
    for _ in range(3):
        assert sandbox.invoke(do="work-after", file=str(done)).content.endswith(b"done")
    sandbox.invoke(do="context")
    assert len(set(done.read_text().split())) == 3


def test_a_warm_sandbox_serves_again_with_its_context_renewed(sandbox: Emulator) -> None:
    first, second = (prelude_and_body(sandbox.invoke(do="context"))[1].decode().split(" ") for _ in range(2))
    assert first[0] != second[0]
    assert first[1] == second[1] == "True"
    assert first[2].startswith("Root=") or not first[2]
    assert int(second[3]) == int(first[3]) + 1
    assert first[4] == second[4]


def test_an_import_that_fails_is_an_init_error(tmp_path: Path) -> None:
    with emulator(tmp_path, _HANDLER="no_such_module.handler") as broken:
        assert broken.invoke(do="context").json()["errorType"] == "Runtime.ImportModuleError"


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_a_module_that_cannot_start_is_an_init_error_with_its_reason_in_the_log(tmp_path: Path, how: str) -> None:
    with emulator(tmp_path, FAIL_INIT=how) as broken:
        error = broken.invoke(do="context").json()
        assert error["errorType"] == {"raise": "Function.ValueError", "exit": "Function.SystemExit"}[how]
        assert "The function could not start" in broken.log()


def test_a_sandbox_that_dies_is_replaced(sandbox: Emulator) -> None:
    assert "errorType" in sandbox.invoke(do="die").json()
    assert prelude_and_body(sandbox.invoke(do="context"))[1].decode().split(" ")[3] == "1"
