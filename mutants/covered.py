"""Which tests run which lines, and how long each takes: recorded once, and again for what has changed.

Its one rule: a record of a test file holds as long as that file and the helpers that it imports are the same to the
byte. Where a module has changed since, the lines move with it: a new line counts as run by whatever ran the line before
it. `--anew` records all again, for a module that now takes quite another way. Of a file that ran no test, none is kept;
one with tests that failed is recorded again by the next run.

A record is `FOLDER/<test file>.json`; `imported.json` has the lines that run when modules are imported, and `texts` the
modules as they were, by their digest.
"""

import difflib
import hashlib
import importlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic  # its own: some tests put a clock in its place
from typing import Any, cast

import pytest

from mutants.changes import Change
from mutants.running import starved

CODE = ("functions", "shared", "console", "deployment", "local")
FORM = 2  # of records: those in another are made again
Lines = dict[str, dict[str, list[int]]]  # by context, then by path


@dataclass(frozen=True)
class Run:
    """One test's run: what it took, and the lines of our code that it ran, by path."""

    seconds: float
    lines: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Record:
    """The runs of the tests of one file that passed, by test id, and the digests of that file and its helpers, and of
    modules; `whole` where all of its tests passed.
    """

    inputs: Mapping[str, str]
    modules: Mapping[str, str]
    runs: Mapping[str, Run]
    whole: bool = True
    form: int = FORM


def digest(path: Path) -> str:
    """A digest of a file's content; of a file that is not there, a word."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def moved(before: str, after: str) -> dict[int, set[int]]:
    """Which lines of a text each line of an earlier one became; a line put in belongs to the line before it."""
    lines: dict[int, set[int]] = defaultdict(set)
    matcher = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    for kind, first, end, new_first, new_end in matcher.get_opcodes():
        new = range(new_first + 1, new_end + 1)
        if kind == "equal":
            for line, other in zip(range(first + 1, end + 1), new, strict=True):
                lines[line].add(other)
        else:
            for line in range(first + 1, end + 1) or (first,):
                lines[line].update(new)
    return lines


class Records:
    """The records in a folder, as far as they hold for the checkout `root`."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder, self._root = folder, root
        self._moved: dict[tuple[str, str], dict[int, set[int]] | None] = {}

    def missing(self, files: Sequence[str]) -> list[str]:
        """The test files whose record does not hold, or is not of all their tests."""
        return [file for file in files if not ((record := self._read(file)) and record.whole)]

    def runs(self, files: Sequence[str]) -> dict[str, Run]:
        """All that is recorded of the tests of these files, by test id, with the lines as they are now."""
        found: dict[str, Run] = {}
        for file in files:
            if record := self._read(file):
                for test, run in record.runs.items():
                    lines = {path: self._now(path, record.modules[path], of) for path, of in run.lines.items()}
                    found[test] = Run(run.seconds, lines)
        return found

    def imported(self) -> dict[str, set[int]]:
        """The lines that ran outside of tests, by path."""
        return {path: set(self._now(path, seen, lines)) for path, (seen, lines) in self._imports().items()}

    def keep(
        self,
        files: Sequence[str],
        runs: Mapping[str, Run],
        imported: Mapping[str, Sequence[int]],
        failed: Collection[str] = (),
    ) -> list[str]:
        """Write the record of each file, and what was imported; the files of which no test is among `runs`.

        They get no record, and lose the one that they had. `failed` are the tests that ran and are not in `runs`.
        """
        texts = self._folder / "texts"
        texts.mkdir(parents=True, exist_ok=True)
        paths = {*imported, *(path for run in runs.values() for path in run.lines)}
        modules = {path: digest(self._root / path) for path in sorted(paths)}
        for path, seen in modules.items():
            (texts / seen).write_bytes((self._root / path).read_bytes())
        empty: list[str] = []
        for file in files:
            own = {test: run for test, run in runs.items() if _file(test) == file}
            if not own:
                (self._folder / _name(file)).unlink(missing_ok=True)
                empty.append(file)
                continue
            whole = not any(_file(test) == file for test in failed)
            inputs = {path: digest(self._root / path) for path in sorted({file, *self._helpers(file)})}
            (self._folder / _name(file)).write_text(json.dumps(asdict(Record(inputs, modules, own, whole))))
        entries = self._imports() | {path: (modules[path], list(of)) for path, of in imported.items()}
        (self._folder / "imported.json").write_text(json.dumps(entries))
        return empty

    def _now(self, path: str, seen: str, lines: Sequence[int]) -> Sequence[int]:
        """Where lines of a module that had the digest `seen` are now."""
        if (path, seen) not in self._moved:
            now, then = self._root / path, self._folder / "texts" / seen
            same = digest(now) == seen
            self._moved[path, seen] = None if same else moved(then.read_text(), now.read_text() if now.exists() else "")
        movements = self._moved[path, seen]
        return lines if movements is None else sorted({new for line in lines for new in movements.get(line, ())})

    def _helpers(self, file: str) -> set[str]:
        """The modules of `tests` that a test file imports, and those that they import."""
        found: set[str] = set()
        ahead = [file]
        while ahead:
            text = (self._root / ahead.pop()).read_text()
            modules = re.findall(r"^from (tests(?:\.\w+)+) import", text, re.MULTILINE)
            named = {path for name in modules if (self._root / (path := f"{name.replace('.', '/')}.py")).is_file()}
            ahead += named - found
            found |= named
        return found

    def _read(self, file: str) -> Record | None:
        content = self._json(_name(file))
        if content is None or content.get("form") != FORM:
            return None
        if any(digest(self._root / path) != seen for path, seen in content["inputs"].items()):
            return None
        return Record(
            content["inputs"],
            content["modules"],
            {test: Run(**run) for test, run in content["runs"].items()},
            content["whole"],
        )

    def _imports(self) -> dict[str, tuple[str, list[int]]]:
        found = self._json("imported.json")
        return {} if found is None else cast("dict[str, tuple[str, list[int]]]", found)

    def _json(self, name: str) -> Any:
        path = self._folder / name
        return json.loads(path.read_text()) if path.is_file() else None


def _file(test: str) -> str:
    return test.partition("::")[0]


def _name(file: str) -> str:
    return file.replace("/", ".") + ".json"


@dataclass(eq=False)  # pytest keeps plugins in sets
class Recorder:
    """A pytest plugin that says to coverage.py which test runs, and keeps how long it took and whether it passed.

    What it waited for a processor that others used does not count. What a fixture runs that several tests share, which
    the first of them sets up, has a context of its own.
    """

    measured: Any
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    failed: set[str] = field(default_factory=set[str])
    fixtures: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """The names of the fixtures that a test has, by test id."""
    shared: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """The module, class, folder ("": the session) that shares a fixture, and its name, by the fixture's context."""
    _test: str = ""
    _context: str = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._test = item.nodeid
        self.fixtures[item.nodeid] = set(getattr(item, "fixturenames", ()))
        self._switch(item.nodeid)
        began, starved_before = monotonic(), starved()
        try:
            return (yield)
        finally:
            lived = monotonic() - began
            self.seconds[item.nodeid] = max(0.001, lived - max(0.0, starved() - starved_before))
            self._switch("")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        name, before = fixturedef.argname, self._context
        self.fixtures[self._test].add(name)  # it may have asked for it while it ran
        self.shared[context := f"{request.node.nodeid} shares {name}"] = request.node.nodeid, name
        self._switch(context)
        try:
            return (yield)
        finally:
            self._switch(before)

    def _switch(self, context: str) -> None:
        self._context = context
        self.measured.switch_context(context)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def runs(self, lines: Lines) -> dict[str, Run]:
        """The runs of the tests that passed, with the lines of the fixtures that they share."""
        found: dict[str, Run] = {}
        for test in self.seconds.keys() - self.failed:
            contexts = [test, *(context for context in self.shared if self._has(test, *self.shared[context]))]
            parts = [lines.get(context, {}) for context in contexts]
            own: dict[str, set[int]] = defaultdict(set)
            for path, of in (pair for part in parts for pair in part.items()):
                own[path].update(of)
            found[test] = Run(self.seconds[test], {path: sorted(of) for path, of in own.items()})
        return found

    def _has(self, test: str, place: str, fixture: str) -> bool:
        return fixture in self.fixtures[test] and (not place or test.startswith((f"{place}::", f"{place}/")))


def record(
    records: Records, root: Path, files: Sequence[str], options: Sequence[str]
) -> tuple[Collection[str], Collection[str]]:
    """Run test files under coverage.py and keep what they ran.

    Returns the tests that failed, which no record has, and the files of which no test passed, which have no record.
    """
    coverage = importlib.import_module("coverage")  # of .venv-mutants: the tests' own environment is without it
    measured = coverage.Coverage(data_file=None, config_file=False, include=[f"{root}/{folder}/*" for folder in CODE])
    recorder = Recorder(measured)
    measured.start()
    pytest.main([*options, "--continue-on-collection-errors", *files], plugins=[recorder])
    measured.stop()
    lines: Lines = defaultdict(lambda: defaultdict(list))
    for path in measured.get_data().measured_files():
        for line, tests in measured.get_data().contexts_by_lineno(path).items():
            for test in tests:
                lines[test][Path(path).relative_to(root).as_posix()].append(line)
    imported = lines.pop("", {})
    return recorder.failed, records.keep(files, recorder.runs(lines), imported, recorder.failed)


def tests_for(change: Change, runs: Mapping[str, Run], seconds: float) -> list[str]:
    """The tests that run a changed line, or for a line that imports run, anything of the module: the one test that was
    the first to import it says nothing of what the line is for. Those of the file that is named as the module are among
    them, for one that only looks at a constant runs no line.

    First come those of the file that is named as the module, then unit tests, then the others, and the quick before the
    slow. Together they take no more than `seconds`, but there is one at least.
    """
    lines = set(change.lines)
    own = f"_{change.module.rpartition('/')[2]}"
    at_module = {test: run for test, run in runs.items() if change.module in run.lines}
    at_line = {test: run for test, run in at_module.items() if not lines.isdisjoint(run.lines[change.module])}
    files = {_file(test) for test in at_module if _file(test).endswith(own)}
    at_module |= {test: run for test, run in runs.items() if not change.within and _file(test) in files}
    chosen = at_line if change.within else {}

    def order(test: str) -> tuple[bool, bool, float]:
        file = test.partition("::")[0]
        return not file.endswith(own), not file.startswith("tests/unit"), (chosen or at_module)[test].seconds

    tests: list[str] = []
    for test in sorted(chosen or at_module, key=order):
        cost = (chosen or at_module)[test].seconds
        if not tests or cost <= seconds:
            tests.append(test)
            seconds -= cost
    return tests
