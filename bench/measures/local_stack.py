"""`make run`'s stack in a folder and on ports of its own, and what a client waits there.

The way through it is longer than the product: client, function URL of `local/`, its Runtime API, sandbox, upstream
server. So the function URL is measured alone too, in front of a function that is no proxy
(`bench.servers.bare_function`).
"""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

from bench import processes
from bench.measures.load import Load, Plan, load
from bench.ports import free_port, free_ports
from bench.processes import ROOT, running
from bench.requests import paced
from bench.targets import HttpTarget, Target

SERVER = "bench"
"""The name of the bench's upstream server in the stack."""
DIRECT, STACK, BARE = "no proxy", "local stack", "its function URL alone, before a function that is no proxy"


@contextlib.contextmanager
def local_stack(folder: Path, servers: str) -> Generator[dict[str, str]]:
    """A stack that lists `servers`, the text of a servers file, beside its demo server: the variables of its `env`."""
    ports = dict(zip(("PORT", "MINISTACK_PORT", "DEMO_PORT"), map(str, free_ports(3)), strict=True))
    listed = folder / "listed_servers.yaml"
    listed.write_text(servers)
    command = [sys.executable, "-m", "local", "run", "--folder", str(folder), "--servers-file", str(listed)]
    command += ["--build", str(ROOT / ".local" / "bench" / "build")]  # the next run finds it done
    stack = subprocess.Popen(
        command, env=dict(os.environ) | ports | {"ISSUER": "off"}, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert stack.stdout is not None
        if not any(line.startswith("Ready after") for line in stack.stdout):
            raise RuntimeError("the local stack did not start")
        lines = re.findall(r"^export (\w+)=(.*)$", (folder / "env").read_text(), re.MULTILINE)
        yield {name: "".join(shlex.split(value)) for name, value in lines}
    finally:
        stack.terminate()
        stack.communicate()


async def delays(stack: dict[str, str], direct: HttpTarget, folder: Path, plan: Plan) -> dict[str, Load]:
    """What a client waits without a proxy, at the stack's function URL, and at one without a proxy behind it."""
    port = free_port()
    with running(processes.module("bench.servers.bare_function_url", str(port), str(folder))) as process:
        await processes.listening(port, process)
        url = urlsplit(stack["FUNCTION_URL"])
        targets: list[Target] = [
            direct,
            HttpTarget(BARE, process, port),
            HttpTarget(STACK, None, url.port or 80, SERVER, stack["OPENAI_API_KEY"]),
        ]
        return await load(targets, paced(2), plan, direct)
