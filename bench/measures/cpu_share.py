"""The share of a CPU that Lambda gives to a memory size, for a process of this machine: a cgroup with a quota.

Lambda gives a whole CPU to 1,769 MB, and to other sizes as much of one. The kernel gives a group its quota of CPU
anew in each period, and lets the group wait for the next one when it has used it up (CFS bandwidth control).
"""

import contextlib
import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

WHOLE_CPU_MB = 1769
"""https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""
PERIOD_US = 20_000
CGROUPS = Path("/sys/fs/cgroup")
_REMOVAL_SECONDS = 2.0
_PROCESSES = "cgroup.procs"


class NoGroupsError(Exception):
    """This machine lets nobody make a group with a quota of CPU, or not this user. Its text says why."""


@dataclass(frozen=True, slots=True)
class Groups:
    """A folder of cgroups in which groups with a quota can be made, and its version: 1 or 2."""

    folder: Path
    version: int

    def settings(self, megabytes: int) -> Mapping[str, str]:
        """The files of a group with the share of that size, and what is written into them, in this order."""
        quota = quota_us(megabytes)
        if self.version == 1:
            return {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota)}
        return {"cpu.max": f"{quota} {PERIOD_US}"}


def share(megabytes: int) -> float:
    """The part of one CPU that Lambda gives to a size."""
    return megabytes / WHOLE_CPU_MB


def quota_us(megabytes: int) -> int:
    """Microseconds of CPU that a size may use in each period."""
    return round(share(megabytes) * PERIOD_US)


def find_groups(root: Path = CGROUPS) -> Groups:
    """Where groups can be made: version 1 where its `cpu` is mounted, else version 2. Raises NoGroupsError.

    In version 2 the children of `root` get a quota only when `root` hands its `cpu` on, which this asks for.
    """
    if (root / "cpu" / "cpu.cfs_quota_us").exists():
        return Groups(root / "cpu", 1)
    with _refused(f"the cgroups in {root} cannot be used"):
        if "cpu" not in (root / "cgroup.controllers").read_text().split():
            raise NoGroupsError(f"the cgroups in {root} have no `cpu` controller")
        handed_on = root / "cgroup.subtree_control"
        if "cpu" not in handed_on.read_text().split():
            handed_on.write_text("+cpu")
    return Groups(root, 2)


@contextlib.contextmanager
def cpu_share(
    groups: Groups, megabytes: int, remove: Callable[[Path], None] = Path.rmdir
) -> Generator[Callable[[int], None]]:
    """A group with the share of that size, for as long as the context lasts: a call puts a process (by id) into it.

    Raises NoGroupsError when this user may not make it. Its processes have to end before the context does.
    """
    folder = groups.folder / group_name(megabytes)
    with _refused(f"no group can be made in {groups.folder}"):
        folder.mkdir()
    try:
        with _refused(f"{folder} takes no quota"):
            for name, text in groups.settings(megabytes).items():
                (folder / name).write_text(text)
        yield lambda process: _join(folder, process)
    finally:
        _remove(folder, remove)


def group_name(megabytes: int) -> str:
    """The name of this process's group for a size."""
    return f"openai-proxy-bench-{os.getpid()}-{megabytes}"


def _join(folder: Path, process: int) -> None:
    with _refused(f"{folder} takes no process"):
        (folder / _PROCESSES).write_text(str(process))


@contextlib.contextmanager
def _refused(what: str) -> Generator[None]:
    """What the machine refuses becomes a NoGroupsError that says `what`."""
    try:
        yield
    except OSError as error:
        raise NoGroupsError(f"{what}: {error}") from error


def _remove(folder: Path, remove: Callable[[Path], None]) -> None:
    """Remove a group. The kernel calls it busy for a moment after its last process has ended."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while True:
        try:
            return remove(folder)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
