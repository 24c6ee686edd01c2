"""One deployment for all stacks of a run that are deployed alike: what a local stack keeps, copied.

The first worker that wants such a stack has one started, deployed with `sam deploy` and stopped. Whoever starts from a
copy of what that one has kept finds everything deployed, for half of the CPU time. The copy names another folder and
another port of MiniStack: both are put in here.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.harness import ROOT, LocalStack, launch, new_ports, start, until_ready

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID")
"""The run whose workers share a deployment; None in a process that runs alone, which starts one or two stacks."""
_FOLDER = (ROOT / ".local/e2e/deployed").resolve()
_MADE = "made.json"


def start_deployed(
    folder: Path,
    *arguments: str,
    ports: dict[str, int] | None = None,
    in_background: bool = False,
    has_alarms: bool = False,
) -> LocalStack:
    """Start a stack of the template's default parameters, as `start` does, from a copy of the run's deployment.

    It has no alarms unless they are asked for: the emulator looks at all of them whenever a metric is put.
    """
    if RUN is None:
        return start(folder, "--keep-state", *arguments, ports=ports, in_background=in_background)
    ports, folder = ports or new_ports(), folder.resolve()
    with _deployment(RUN) as made:
        shutil.copytree(_FOLDER / "state", folder / "state")
    change_names(folder / "state", {f"{_FOLDER}/": f"{folder}/", f":{made}/": f":{ports['MINISTACK_PORT']}/"})
    if not has_alarms:
        _forget_alarms(folder / "state/services/cloudwatch.json")
    stack = start(folder, "--keep-state", *arguments, ports=ports, in_background=in_background)
    assert "Deploying" not in stack.said, "the copy is what this stack would deploy"
    return stack


@contextmanager
def _deployment(run: str) -> Generator[int]:
    """Have the deployment of this run in `_FOLDER`, made now if no worker has. Yields the port of its MiniStack."""
    _FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with _FOLDER.with_name("deployed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = _FOLDER / _MADE
        if not made.is_file() or json.loads(made.read_text())["run"] != run:
            shutil.rmtree(_FOLDER, ignore_errors=True)
            ports = new_ports()
            stack = launch(_FOLDER, ports, "--keep-state")
            try:
                until_ready(stack)
            finally:
                stack.stop()
            made.write_text(json.dumps({"run": run, "port": ports["MINISTACK_PORT"]}))
        yield json.loads(made.read_text())["port"]


def _forget_alarms(kept: Path) -> None:
    saved = json.loads(kept.read_text(encoding="utf-8"))
    assert saved["payload"]["alarms"]["data"], "there were some"
    saved["payload"]["alarms"]["data"] = {}
    kept.write_text(json.dumps(saved), encoding="utf-8")


def change_names(state: Path, changes: Mapping[str, str]) -> None:
    """Put other texts in the place of some, wherever a kept state names them."""
    for file in (state / "deployed", *(state / "services").glob("*.json")):
        before = file.read_text(encoding="utf-8")
        after = before
        for old, new in changes.items():
            after = after.replace(old, new)
        if after != before:
            file.write_text(after, encoding="utf-8")
