"""The processes that are measured, and what the kernel knows of them. Linux only.

Every process is started with an environment made here, so that nothing of the caller's reaches it.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openai_proxy.yaml_files import as_built

ROOT = Path(__file__).parents[1]
BUILD = ROOT / ".local" / "bench" / "build"
"""Where `make bench` builds for this machine; .aws-sam/build is for Lambda."""
FASTAPI_PYTHON = str(ROOT / ".venv-bench" / "bin" / "python")

_WITHOUT_BYTECODE = "without-bytecode"
_BARE_ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/nonexistent"}


class Process:
    """A running process."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.started = time.monotonic_ns()
        self._popen = subprocess.Popen(
            command,
            env=_BARE_ENVIRONMENT | dict(environment),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def cpu(self) -> float:
        """Seconds of CPU, user and system, of all its threads; exact, where /proc/PID/stat counts hundredths."""
        return cpu_of(self._popen.pid)

    @property
    def id(self) -> int:
        """The id by which the kernel knows the process."""
        return self._popen.pid

    @property
    def peak(self) -> float:
        """The most that was ever resident, in megabytes (1,000,000 bytes)."""
        status = Path(f"/proc/{self._popen.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6

    @property
    def resident(self) -> float:
        """Resident memory in megabytes (1,000,000 bytes), shared pages included."""
        return _rollup(self._popen.pid, "Rss:")

    def assert_running(self) -> None:
        """Raises RuntimeError when the process has ended."""
        if self._popen.poll() is not None:
            raise RuntimeError(f"{self._popen.args!r} ended with status {self._popen.returncode}")

    def wait(self) -> int:
        """Wait for the end of the process: nanoseconds from the start to the end."""
        if self._popen.wait() != 0:
            raise RuntimeError(f"{self._popen.args!r} ended with status {self._popen.returncode}")
        return time.monotonic_ns() - self.started

    @property
    def children(self) -> list[int]:
        """The ids of the processes that it has started."""
        return [int(each) for each in Path(f"/proc/{self.id}/task/{self.id}/children").read_text().split()]

    @property
    def proportional(self) -> float:
        """Memory of the process and its children in megabytes (1,000,000 bytes); a shared page counts once (PSS)."""
        return sum(_rollup(each, "Pss:") for each in (self.id, *self.children))

    def stop(self) -> None:
        """End the process, with all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


def cpu_of(process: int) -> float:
    """Seconds of CPU of the process with this id."""
    # CPUCLOCK_SCHED of another process: MAKE_PROCESS_CPUCLOCK in the kernel's posix-timers.h.
    return time.clock_gettime(~process << 3 | 2)


def _rollup(process: int, name: str) -> float:
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return int(rollup.partition(name)[2].split()[0]) * 1024 / 1e6


@contextlib.contextmanager
def running(process: Process) -> Generator[Process]:
    """`process`, ended when the context is left."""
    try:
        yield process
    finally:
        process.stop()


def layer(build: Path) -> Path:
    """The folder of packages in a built layer."""
    found = [path.parents[1] for path in build.glob("*/python/openai_proxy/__init__.py")]
    if len(found) != 1:
        raise RuntimeError("There is no built layer: `make bench` builds it.")
    return found[0]


def without_bytecode(build: Path, folder: Path) -> Path:
    """A copy of what a sandbox loads of the build, as `sam build` leaves it: without bytecode."""
    copy = folder / _WITHOUT_BYTECODE
    for part in (build / "functions", layer(build)):
        shutil.copytree(part, copy / part.relative_to(build), ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a sandbox is started with: addresses of its peers, and files."""

    upstream: str
    aws: str
    servers_file: Path
    python: str
    build: Path = BUILD
    without: str = ""
    """`events`, `metering` or `anything`: a sandbox that leaves them out (`bench.sandbox_without_…`)."""

    def sandbox(self, runtime_api: str, workers: int = 0) -> Process:
        """A proxy sandbox from the built application, with the environment that Lambda gives it.

        With `workers` it is an environment of Lambda's managed instances, for so many requests at a time.
        """
        code = self.build / "functions"
        path = [str(code), str(layer(self.build)), *([str(ROOT)] if self.without else [])]
        environment = _LAMBDA_ENVIRONMENT | {
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
            "AWS_ENDPOINT_URL": f"http://{self.aws}",
            "LAMBDA_TASK_ROOT": str(code),
            "SERVERS_FILE": str(self.servers_file),
            "PYTHONPATH": os.pathsep.join(path),
        }
        if workers:
            environment["AWS_LAMBDA_MAX_CONCURRENCY"] = str(workers)
            environment["AWS_LAMBDA_INITIALIZATION_TYPE"] = "lambda-managed-instances"
        if self.build.name == _WITHOUT_BYTECODE:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        command = [str(code / "proxy" / "bootstrap"), self.python]
        if self.without:
            command = [self.python, "-m", f"bench.servers.sandbox_without_{self.without}"]
        return Process(command, environment, code)


_LAMBDA_ENVIRONMENT = {
    "_HANDLER": "proxy.handler.handler",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_SESSION_TOKEN": "test" * 90,
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "proxy",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AUTHORIZER_CACHE_SECONDS": "60",
    "AUTHORIZER_FUNCTION": "authorizer",
    "CACHE_BUCKET": "cache",
    "CACHE_TABLE": "cache",
    "CORS_ALLOW_ORIGINS": "*",
    "EVENT_BUS_NAME": "bench",
    "LIMITS_TABLE": "limits",
    "COSTS_TABLE": "costs",
    "LOG_LEVEL": "INFO",
    "PROVIDER_TOKENS_SECRET": "tokens",
    "STAGE": "bench",
    "STREAMS_QUEUE": "https://sqs.us-east-1.amazonaws.com/000000000000/streams",
    "STREAMS_TABLE": "streams",
    "STREAM_KEPT_SECONDS": "600",
}


def empty_python(folder: Path) -> str:
    """This interpreter with nothing installed: no package and no start-up hook of this machine."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder / "python")
    return str(folder / "python" / "bin" / "python")


def bare_httpx(python: str, folder: Path) -> Process:
    """What the cold start is measured against: the same interpreter, and nothing but httpx.

    `folder` gets links to httpx and what it requires. With click, rich and Pygments in sight it would load those too.
    """
    (packages,) = (ROOT / ".venv-bench" / "lib").glob("python*/site-packages")
    for name in ("anyio", "certifi", "h11", "httpcore", "httpx", "idna", "typing_extensions.py"):
        if not (folder / name).exists():
            (folder / name).symlink_to(packages / name)
    return Process([python, "-c", "import httpx; httpx.Client()"], {"PYTHONPATH": str(folder)}, ROOT)


def fastapi(upstream: str, port: int, *, fast: bool) -> Process:
    """The FastAPI pass-through; `fast` with uvloop and httptools, else with uvicorn's pure Python parts."""
    parts = ("uvloop", "httptools") if fast else ("asyncio", "h11")
    command = [FASTAPI_PYTHON, "-m", "uvicorn", "bench.servers.passthrough_fastapi:app", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning", "--loop", parts[0], "--http", parts[1]]
    command += ["--timeout-keep-alive", "3600"]
    return Process(command, {"UPSTREAM": f"http://{upstream}", "PYTHONPATH": str(ROOT)}, ROOT)


def litellm(upstream: str, port: int, folder: Path, key: str) -> Process | None:
    """LiteLLM's proxy with its cache in memory; None where it is not installed: it is no part of `make bench`.

    `python3 -m venv .venv-litellm && .venv-litellm/bin/pip install 'litellm[proxy]'` installs it.
    """
    command = ROOT / ".venv-litellm" / "bin" / "litellm"
    if not command.exists():
        return None
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM.format(upstream=upstream))
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key}
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    return Process([str(command), *arguments], environment, folder)


_LITELLM = """
model_list:
  - model_name: plain
    litellm_params: {{model: openai/plain, api_base: "http://{upstream}/v1", api_key: token}}
  - model_name: plain-document
    litellm_params: {{model: openai/plain-document, api_base: "http://{upstream}/v1", api_key: token}}
litellm_settings:
  cache: true
  cache_params: {{type: local}}
"""


def module(name: str, *arguments: str) -> Process:
    """A module of this repository in this interpreter: the servers that stand in for others."""
    return Process([sys.executable, "-m", name, *arguments], {"PYTHONPATH": str(ROOT)}, ROOT)


def servers(port: int, name: str = "openai") -> str:
    """The text of a servers file with the upstream server at `port`."""
    return f'{name}:\n  url: http://127.0.0.1:{port}/v1\n  token: "token"\n  model: "plain"\n'


def built_servers(port: int, more: str = "") -> str:
    """The same with `more` after it, as `make build` writes it."""
    return as_built(servers(port) + more)


async def listening(port: int, process: Process, seconds: float = 20.0) -> None:
    """Wait until `process` accepts connections at `port`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            process.assert_running()
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.001)
        else:
            writer.close()
            return
