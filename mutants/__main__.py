"""`make mutants`: changes modules in small ways, one at a time, and says which changes no test notices.

It ends with 1 if there is such a change that `accepted.toml` does not have, and works in a copy of the checkout.
"""

import importlib
import os
import secrets
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from mutants import accepted, covered, running
from mutants.arguments import ROOT, arguments
from mutants.changes import Change, sample
from mutants.covered import Records, Run
from mutants.running import CANNOT, HUNG, NOTICED, SURVIVED, UNTESTED, Plan, Runner, Verdict

IMPORT = "import"
"""What noticed a change with which the tests could not be loaded."""

RECORDS = ROOT / ".local" / "mutants"
HEAVY = ("boto3", "moto.dynamodb", "hypothesis.stateful", "httpx", "openai", "yaml", "jsonschema", "rich.table")
"""What tests load of others: loaded once, before any fork. Ours is not: some forks load it changed."""


def main() -> int:
    """Read the arguments and go; the exit code."""
    options = arguments()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, _stop)
    modules: list[str] = options.modules
    changes = sample({module: (ROOT / module).read_text() for module in modules}, options.sample, seed)
    if options.anew:
        shutil.rmtree(RECORDS, ignore_errors=True)
    print(f"{len(changes)} changes of {len(modules)} modules, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder).resolve() / "checkout"
        _copy(copy)
        campaign = Campaign(copy, [*options.tests, *options.processes], options.seconds)
        verdicts = campaign.verdicts(changes)
        if options.processes:
            verdicts = campaign.in_processes(changes, verdicts, options.processes)
    return _report(changes, verdicts)


def _stop(_number: int, _frame: object) -> None:
    sys.exit("stopped")  # an exception, so that the copy is removed


def _copy(copy: Path) -> None:
    """What git knows or would add of the checkout, at another place, which Python takes instead of the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    for folder in (".venv", ".venv-ministack"):
        (copy / folder).symlink_to(ROOT / folder)
    os.chdir(copy)
    paths = [str(copy / "functions"), str(copy / "shared"), str(copy)]
    sys.path[:0] = paths
    sys.dont_write_bytecode = False  # a session that loads a changed file takes from bytecode all that has not changed
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}


def test_files(copy: Path, names: Sequence[str]) -> list[str]:
    """The files of tests in these folders and files, by their paths in the copy; ends where a name is not in it."""
    files: set[Path] = set()
    for name in names:
        path = copy / name
        if not path.exists():
            sys.exit(f"{name} is not there, or git ignores it: name folders or files of tests of this checkout.")
        files |= set(path.rglob("test_*.py") if path.is_dir() else [path])
    return sorted(file.relative_to(copy).as_posix() for file in files)


class Campaign:
    """One run over changes, in the copy of the checkout."""

    def __init__(self, copy: Path, tests: Sequence[str], seconds: float) -> None:
        self._copy, self._seconds = copy, seconds
        self._records = Records(RECORDS, copy)
        self._options = running.options(copy.parent)
        self._screen = os.fdopen(os.dup(2), "w", buffering=1)
        for name in HEAVY:
            with suppress(ImportError):
                importlib.import_module(name)
        self._files = test_files(copy, tests)
        self._runs = self._recorded()
        self._times = {test: run.seconds for test, run in self._runs.items()}
        self._changed = 0

    def _recorded(self) -> Mapping[str, Run]:
        if missing := self._records.missing(self._files):
            self._say(f"Recording which lines {len(missing)} test files run (again only for what changes) …")
            for _, files in groupby(missing, key=lambda file: file.rpartition("/")[0]):
                self._record(list(files))
        return self._records.runs(self._files)

    def _record(self, files: Sequence[str]) -> None:
        def session() -> None:
            failed, empty = covered.record(self._records, self._copy, files, self._options)
            if failed:
                self._say("These tests fail without a change, and are left out:\n  " + "\n  ".join(sorted(failed)))
            if empty:
                self._say("Of these files no test passed, and none is tried:\n  " + "\n  ".join(sorted(empty)))

        began = time.monotonic()
        running.forked(session)
        self._say(f"{len(files)} of {files[0].rpartition('/')[0]} in {time.monotonic() - began:.0f} s")

    def verdicts(self, changes: Sequence[Change]) -> list[Verdict]:
        """What becomes of each change."""
        imported = self._records.imported()
        plans: list[Plan] = [(change, covered.tests_for(change, self._runs, self._seconds)) for change in changes]
        loaded = [number for number, (change, _) in enumerate(plans) if change and _in_memory(change, imported)]
        found = dict(zip(loaded, self._session([plans[number] for number in loaded]), strict=True))
        ahead = {n: plan for n, plan in enumerate(plans) if found.get(n, Verdict(CANNOT)).outcome == CANNOT}
        while ahead:
            for number, plan in ahead.items():
                found[number] = self._from_disk(plan)
                self._tell(number, plan, found[number])
            failing = self._failing({test for number in ahead if (test := found[number].test) not in (None, IMPORT)})
            ahead = {
                number: (change, [test for test in tests if test not in failing])
                for number, (change, tests) in ahead.items()
                if found[number].test in failing
            }
        return [found[number] for number in range(len(plans))]

    def in_processes(
        self, changes: Sequence[Change], verdicts: Sequence[Verdict], files: Sequence[str]
    ) -> list[Verdict]:
        """The verdicts, of survivors those of the tests in `files`, whose processes load the changed file."""
        tests = [test for test in self._runs if test.partition("::")[0] in files]
        failing, found = self._failing(tests), list(verdicts)
        for number, change in enumerate(changes):
            if found[number].outcome in (SURVIVED, UNTESTED):
                plan = change, [test for test in tests if test not in failing]
                found[number] = self._from_disk(plan)
                self._tell(number, plan, found[number])
        return found

    def _failing(self, tests: Collection[str]) -> set[str]:
        """Those of some tests that fail when nothing is changed: they have noticed nothing."""
        names = sorted(tests)
        verdicts = self._session([(None, [name]) for name in names]) if names else []
        return {name for name, verdict in zip(names, verdicts, strict=True) if verdict.outcome != SURVIVED}

    def _session(self, plans: Sequence[Plan]) -> list[Verdict]:
        """The verdicts of plans that change what is loaded, or nothing."""
        runner = Runner(
            plans, self._times, self._copy, lambda number, verdict: self._tell(number, plans[number], verdict)
        )
        return running.in_session(runner, self._arguments(plans), self._copy.parent / "verdicts", Verdict(CANNOT))

    def _from_disk(self, plan: Plan) -> Verdict:
        """The verdict of a change that must be in the file when it is loaded."""
        change, tests = plan
        if change is None or not tests:
            return Verdict(UNTESTED)
        path = self._copy / change.module
        before, times = path.read_text(), path.stat()
        try:
            path.write_text(change.source)
            self._changed += 1  # a moment of its own, or its bytecode could be that of another change
            os.utime(path, (times.st_atime, times.st_mtime + self._changed))
            runner = Runner([plan], self._times, self._copy, _no_word, in_memory=False)
            loaded_not = Verdict(NOTICED, IMPORT)
            return running.in_session(runner, self._arguments([plan]), self._copy.parent / "verdicts", loaded_not)[0]
        finally:
            path.write_text(before)
            os.utime(path, (times.st_atime, times.st_mtime))

    def _arguments(self, plans: Sequence[Plan]) -> list[str]:
        return [*self._options, *sorted({test.partition("::")[0] for _, tests in plans for test in tests})]

    def _tell(self, number: int, plan: Plan, verdict: Verdict) -> None:
        change, tests = plan
        if change is not None:
            place = f"{number + 1} {change.module}:{change.lines[0]} {change.operator}"
            self._say(f"{place}: {verdict.outcome} {verdict.test or f'({len(tests)} tests)'}")
            if verdict.outcome in (SURVIVED, UNTESTED):
                self._say(change.diff)

    def _say(self, text: str) -> None:
        self._screen.write(text + "\n")


def _no_word(_number: int, _verdict: Verdict) -> None:
    """Of one plan nothing is told while it runs."""


def _in_memory(change: Change, imported: Mapping[str, set[int]]) -> bool:
    """Whether it is enough to change a loaded function: it has not run before, when its module was imported."""
    return change.within and change.module in imported and imported[change.module].isdisjoint(change.lines)


def _report(changes: Sequence[Change], verdicts: Sequence[Verdict]) -> int:
    """Print the survivors, the entries that have become useless and the count; 1 if there are survivors."""
    entries = accepted.accepted(accepted.FILE.read_text())
    tried = {True: list[Change](), False: list[Change]()}  # by whether they were noticed
    for change, verdict in zip(changes, verdicts, strict=True):
        tried[verdict.outcome in (NOTICED, HUNG)].append(change)
    unnoticed = tried[False]
    survivors = [change for change in unnoticed if not any(entry.holds_for(change) for entry in entries)]
    for change in survivors:
        verdict = verdicts[changes.index(change)]
        print(
            f"\n# {change.module}:{change.lines[0]} ({change.operator}): {verdict.outcome}\n{accepted.as_entry(change)}"
        )
    for why, entry in accepted.useless(entries, tried[True], ROOT):
        print(f"\n{accepted.FILE.name}: {entry.module} {entry.function}: {why}\n{entry.diff}")
    known = len(unnoticed) - len(survivors)
    noticed, matter = len(changes) - len(unnoticed), len(changes) - known
    share = f" ({noticed / matter:.1%} of those that matter)" if matter else ""
    print(f"\n{len(changes)} changes: {noticed} noticed{share}, {known} accepted, {len(survivors)} survived.")
    return 1 if survivors else 0


if __name__ == "__main__":
    site.addsitedir(f"{ROOT}/.venv-mutants/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages")
    sys.exit(main())
