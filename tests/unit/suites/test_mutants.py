"""The mutants: which changes there are, which tests try them, what is accepted, and a run over a small project."""

import ast
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mutants import __main__, accepted, covered
from mutants.changes import Change, change_of
from mutants.covered import Records, Run
from mutants.running import CANNOT, HUNG, NOTICED, SURVIVED, UNTESTED, Plan, Verdict
from mutants.source import edits, without_comment

ROOT = Path(__file__).resolve().parents[3]

ADD = '    def add(self, amount: int, label: str = "all") -> int:'
EXCEPT = "except (ValueError, decimal.Inexact):"
MODULE = f'''"""A module."""

LIMIT = 3


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

{ADD}
        """Add."""
        self.count += amount
        if self.count > LIMIT:
            raise ValueError(label, self.count)
        return self.count


def outer(first, second):
    def inner():
        try:
            return divmod(first, second)
        {EXCEPT}
            return None

    return inner()
'''


def changes() -> list[Change]:
    found = [change_of("m.py", operator, MODULE, make()) for operator, make in edits(MODULE)]
    return [change for change in found if change]


def change_with(added: str) -> Change:
    (change,) = [change for change in changes() if f"+{added}" in change.diff.splitlines()]
    return change


def test_each_kind_of_change_is_made_at_each_of_its_places_and_nowhere_else() -> None:
    assert {(change.operator, change.function, change.diff) for change in changes()} == {
        ("DropStatement", "Counter.__init__", "-self.count = 0\n+pass"),
        ("DropStatement", "Counter.add", "-self.count += amount\n+pass"),
        ("DropStatement", "Counter.add", "-raise ValueError(label, self.count)\n+pass"),
        ("DropStatement", "Counter.add", "-return self.count\n+pass"),
        ("DropStatement", "outer.inner", "-return divmod(first, second)\n+pass"),
        ("DropStatement", "outer", "-return inner()\n+pass"),
        ("SwapArguments", "Counter.add", "-raise ValueError(label, self.count)\n+raise ValueError(self.count, label)"),
        ("SwapArguments", "outer.inner", "-return divmod(first, second)\n+return divmod(second, first)"),
        ("ReplaceException", "outer.inner", f"-{EXCEPT}\n+{EXCEPT.replace('ValueError', 'ZeroDivisionError')}"),
        ("ReplaceException", "outer.inner", f"-{EXCEPT}\n+{EXCEPT.replace('decimal.Inexact', 'ZeroDivisionError')}"),
        ("ChangeWord", "Counter.add", f"-{ADD.strip()}\n+{ADD.strip().replace('all', 'allX')}"),
    }


def test_a_type_in_words_is_not_changed() -> None:
    assert [make() for _, make in edits('x = cast("int", get("word"))')] == ['x = cast("int", get("wordX"))']


def test_a_change_keeps_the_number_of_lines_and_can_be_read() -> None:
    text = (ROOT / "functions/proxy/upstream/attempts.py").read_text()
    for _, make in list(edits(text))[::7]:
        assert ast.parse(make())
        assert make().count("\n") == text.count("\n")


def test_only_a_change_in_a_body_can_be_made_in_memory() -> None:
    assert change_with("return divmod(second, first)").within
    assert not next(change for change in changes() if change.operator == "ChangeWord").within


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x: int = 1", "x: str = 1"),
        ("def f(a: int | str) -> int: ...", "def f(a: int & str) -> str: ..."),
        ("x = 1", "x = (1)"),
        ("def f(a, *, b=1): ...", "def f(a, /, b=1): ..."),
        ("def f(a, b=1, *, c): ...", "def f(a, b=1, /, *, c): ..."),
        ("lambda a, *, b: a", "lambda a, /, b: a"),
        ("__all__ = ['a']", "__all__ = ['b']"),
        ("@dataclass(slots=True)\nclass A: ...", "@dataclass(slots=False)\nclass A: ..."),
        ("@dataclass(frozen=True)\nclass A: ...", "@dataclass(frozen=False)\nclass A: ..."),
        ("if TYPE_CHECKING:\n    import a", "if not TYPE_CHECKING:\n    import a"),
        ("if TYPE_CHECKING:\n    A = 'a'", "if TYPE_CHECKING:\n    A = 'aX'"),
        ("Word = Literal['a', 'b']", "Word = Literal['aX', 'b']"),
        ("Word = Event[Literal['a'], int]", "Word = Event[Literal['aX'], int]"),
        ("Any = One | Other", "Any = One & Other"),
        ("x = 1", "x = = 1"),
        ("x = 1", None),
    ],
)
def test_what_python_would_do_in_the_same_way_or_not_at_all_is_no_change(before: str, after: str | None) -> None:
    assert change_of("m.py", "any", before, after) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(a, *, b=1): ...", "def f(a, *, b=2): ..."),
        ("def f(a, b): ...", "def f(a, b=None): ..."),
        ("def f(*a, b=1): ...", "def f(*a, b=2): ..."),
        ("WORD = _FILES['a']", "WORD = _FILES['aX']"),
        ("word = one | other", "word = one & other"),
    ],
)
def test_a_default_and_a_constant_are_changes(before: str, after: str) -> None:
    assert change_of("m.py", "any", before, after)


def run(seconds: float, **lines: Sequence[int]) -> Run:
    return Run(seconds, {f"{name}.py": numbers for name, numbers in lines.items()})


def test_tests_that_run_a_changed_line_are_chosen_the_nearest_first() -> None:
    change = change_with("return divmod(second, first)")
    (line,) = change.lines
    runs = {
        "tests/integration/test_all.py::a": run(0.1, m=[1, line]),
        "tests/unit/test_n.py::slow": run(2, m=[line]),
        "tests/unit/test_n.py::quick": run(1, m=[line], n=[7]),
        "tests/unit/test_n.py::elsewhere": run(1, m=[1], n=[line]),
        "tests/unit/test_m.py::own": run(3, m=[line]),
    }
    everything = covered.tests_for(change, runs, 100)
    assert everything == [
        "tests/unit/test_m.py::own",
        "tests/unit/test_n.py::quick",
        "tests/unit/test_n.py::slow",
        "tests/integration/test_all.py::a",
    ]
    assert covered.tests_for(change, runs, 4) == ["tests/unit/test_m.py::own", "tests/unit/test_n.py::quick"]
    assert covered.tests_for(change, runs, 0) == ["tests/unit/test_m.py::own"]


def test_a_line_that_only_an_import_runs_is_tried_by_all_tests_of_the_module() -> None:
    change = change_of("m.py", "any", MODULE, MODULE.replace("LIMIT = 3", "LIMIT = 4"))
    assert change
    runs = {"tests/unit/a.py::one": run(1, m=[19]), "tests/unit/a.py::two": run(1, n=[3])}
    assert covered.tests_for(change, runs, 9) == ["tests/unit/a.py::one"]
    first_to_import = {"tests/unit/b.py::first": run(1, m=[*change.lines])}
    assert covered.tests_for(change, runs | first_to_import, 9) == ["tests/unit/a.py::one", "tests/unit/b.py::first"]


def test_a_constant_is_tried_by_tests_that_only_look_at_it() -> None:
    change = change_of("m.py", "any", MODULE, MODULE.replace("LIMIT = 3", "LIMIT = 4"))
    assert change
    runs = {
        "tests/a/test_m.py::looks": run(1),
        "tests/b/test_all_of_m.py::one": run(1),
        "tests/b/test_m.py::is": run(1),
    }
    assert covered.tests_for(change, runs, 9) == []
    runs |= {"tests/a/test_m.py::runs": run(2, m=[19])}
    assert covered.tests_for(change, runs, 9) == ["tests/a/test_m.py::looks", "tests/a/test_m.py::runs"]


FILES = {
    "tests/test_a.py": "from tests.helper import f\n",
    "tests/helper.py": "from tests.folder.other import g\nfrom tests.folder import other\n",
    "tests/folder/other.py": "",
    "m.py": "first\nsecond\nthird\n",
}


@pytest.fixture
def records(tmp_path: Path) -> Records:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    kept = Records(tmp_path / "records", tmp_path)
    assert kept.missing(["tests/test_a.py"]) == ["tests/test_a.py"]
    kept.keep(["tests/test_a.py"], {"tests/test_a.py::one": run(1, m=[1, 3])}, {"m.py": [1, 2]})
    return Records(tmp_path / "records", tmp_path)


@pytest.mark.parametrize("name", ["tests/test_a.py", "tests/helper.py", "tests/folder/other.py"])
def test_a_record_holds_until_its_test_or_a_helper_of_it_is_another(
    records: Records, tmp_path: Path, name: str
) -> None:
    assert records.missing(["tests/test_a.py"]) == []
    assert records.runs(["tests/test_a.py"]) == {"tests/test_a.py::one": run(1, m=[1, 3])}
    (tmp_path / name).write_text(FILES[name] + "# changed\n")
    assert records.missing(["tests/test_a.py"]) == ["tests/test_a.py"]
    assert records.runs(["tests/test_a.py"]) == {}


def test_a_test_file_that_ran_no_test_has_no_record_and_is_named(records: Records, tmp_path: Path) -> None:
    (tmp_path / "tests/test_b.py").write_text("")
    files = ["tests/test_a.py", "tests/test_b.py"]
    assert records.keep(files, {"tests/test_b.py::one": run(1, m=[2])}, {}) == ["tests/test_a.py"]
    assert records.missing(files) == ["tests/test_a.py"]
    assert list(records.runs(files)) == ["tests/test_b.py::one"]


def test_tests_that_failed_have_no_record_and_are_recorded_again(records: Records) -> None:
    ran = {"tests/test_a.py::one": run(1, m=[1, 3])}
    assert records.keep(["tests/test_a.py"], ran, {}, failed=["tests/test_a.py::two"]) == []
    assert records.missing(["tests/test_a.py"]) == ["tests/test_a.py"]
    assert records.runs(["tests/test_a.py"]) == ran


def test_how_long_a_test_took_says_a_clock_that_no_test_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a test that moves its own clock would be taken for one that is too slow to be tried."""
    measured, item = (SimpleNamespace(switch_context=str, nodeid="t") for _ in range(2))
    recorder = covered.Recorder(measured)
    run = recorder.pytest_runtest_protocol(item)  # pyright: ignore[reportArgumentType]
    next(run)
    monkeypatch.setattr(time, "monotonic", lambda: 1e12)
    with suppress(StopIteration):
        run.send(None)
    assert recorder.seconds["t"] < 1e6


SHARING = """
import pytest
from ran import ran

@pytest.fixture(scope="module")
def shared():
    ran(1)

@pytest.fixture(scope="module")
def asked_late():
    ran(2)

@pytest.fixture
def own(shared):
    ran(3)

class TestSome:
    @pytest.fixture(scope="class")
    def of_class(self, request):
        ran(4)
        request.getfixturevalue("shared")
        ran(5)

    def test_first(self, of_class):
        ran(6)

    def test_second(self, of_class, shared):
        ran(7)

def test_third(own):
    ran(8)

@pytest.fixture(scope="session")
def of_all():
    ran(12)

def test_alone(of_all):
    ran(9)

def test_late(request):
    request.getfixturevalue("asked_late")
    ran(10)

def test_failing(shared):
    ran(11)
    assert False
"""
RAN = """
import pickle, sys
import pytest
import ran
from mutants import covered

class Measured:
    def switch_context(self, context):
        self.context = context

measured, lines = Measured(), {}
ran.ran = lambda line: lines.setdefault(measured.context, {}).setdefault("m", []).append(line)
recorder = covered.Recorder(measured)
pytest.main(["-q", "-p", "no:cacheprovider", "a", "b"], plugins=[recorder])
with open("found", "wb") as file:
    pickle.dump({test: run.lines for test, run in recorder.runs(lines).items()}, file)
"""


def test_what_a_shared_fixture_runs_counts_for_each_test_that_has_it(tmp_path: Path) -> None:
    files = {"a/test_sharing.py": SHARING, "ran.py": "", "b/conftest.py": "", "b/test_other.py": "def test_it(): ..."}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    paths = os.pathsep.join(map(str, (tmp_path, ROOT / "functions", ROOT / "shared", ROOT)))
    environ = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", RAN], check=True, cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL)
    found = pickle.loads((tmp_path / "found").read_bytes())
    assert found == {
        "b/test_other.py::test_it": {},
        "a/test_sharing.py::TestSome::test_first": {"m": [1, 4, 5, 6]},
        "a/test_sharing.py::TestSome::test_second": {"m": [1, 4, 5, 7]},
        "a/test_sharing.py::test_third": {"m": [1, 3, 8]},
        "a/test_sharing.py::test_alone": {"m": [9, 12]},
        "a/test_sharing.py::test_late": {"m": [2, 10]},
    }


def test_a_test_file_that_is_not_there_is_named_before_anything_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^tests/test_none\.py is not there"):
        __main__.test_files(tmp_path, ["tests/test_none.py"])


def test_the_lines_of_a_record_move_with_their_module(records: Records, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("new\nfirst\nnew\nthird\nnew\nnew\n")
    assert records.runs(["tests/test_a.py"]) == {"tests/test_a.py::one": run(1, m=[2, 4, 5, 6])}
    assert records.imported() == {"m.py": {2, 3}}


def test_a_record_of_a_module_that_is_gone_has_no_line_of_it(records: Records, tmp_path: Path) -> None:
    (tmp_path / "m.py").unlink()
    assert records.runs(["tests/test_a.py"]) == {"tests/test_a.py::one": run(1, m=[])}


def test_an_accepted_change_is_known_wherever_its_function_stands_until_its_line_changes(tmp_path: Path) -> None:
    change = change_with("return divmod(second, first)")
    entry = accepted.as_entry(change).replace('reason = ""', 'reason = "they are the same"')
    (known,) = accepted.accepted(entry)
    assert known.holds_for(change)
    assert not known.holds_for(change_with("raise ValueError(self.count, label)"))
    (tmp_path / "m.py").write_text("import os\n\n" + MODULE.replace("    def inner", "    # why\n    def inner"))
    assert accepted.outdated([known], tmp_path) == []
    assert list(accepted.useless([known], [change_with("raise ValueError(self.count, label)")], tmp_path)) == []
    ((why, entry),) = accepted.useless([known], [change], tmp_path)
    assert (entry, "a test notices" in why) == (known, True)
    for instead in (MODULE.replace("divmod(", "pow("), MODULE.replace("inner", "other"), ""):
        (tmp_path / "m.py").write_text(instead)
        assert accepted.outdated([known], tmp_path) == [known]
        assert [entry for _, entry in accepted.useless([known], [change], tmp_path)] == [known]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("-if a:  # why", "-if a:"),
        ("+call(b'#', \"#\",  # it's half of one", "+call(b'#', \"#\","),
        ("@wrapped  # noqa: X1", "@wrapped"),
        ('-text = """# one', '-text = """# one'),
        ("x = 1", "x = 1"),
    ],
)
def test_a_comment_is_no_part_of_what_is_accepted(line: str, code: str) -> None:
    assert without_comment(line) == code
    changed = replace(changes()[0], diff=line)
    entry = accepted.Accepted(changed.module, changed.function, code, "a reason")
    assert entry.holds_for(changed)


def test_an_operator_is_accepted_for_a_line_and_no_other_operator_with_it() -> None:
    one, *others = [change for change in changes() if change.operator == "DropStatement"]
    line = one.diff.partition("\n")[0]
    entry = accepted.Accepted(one.module, one.function, line, "any value will do", "DropStatement")
    assert entry.holds_for(one)
    assert not any(entry.holds_for(other) for other in others)
    assert not entry.holds_for(replace(one, operator="ChangeWord"))
    assert not accepted.Accepted(one.module, one.function, line, "a reason").holds_for(one)


def test_an_accepted_change_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="reason"):
        accepted.accepted(accepted.as_entry(change_with("return divmod(second, first)")))


def test_the_accepted_changes_of_this_checkout_are_of_code_that_stands() -> None:
    assert accepted.outdated(accepted.accepted(accepted.FILE.read_text()), ROOT) == []


PROJECT = {
    "conftest.py": "from hypothesis import settings\nsettings.register_profile('ci')\n",
    "double.py": (
        "from threading import Event\n\n\ndef double(x):\n    y = 0\n    y = x + x\n    return y\n\n\n"
        "def wait(x):\n    return Event().wait(x)\n"
    ),
    "test_double.py": (
        "import os\nimport double\n\n\ndef test_it():\n    assert double.double(2) == 4\n\n\ndef test_zero():\n"
        "    assert double.double(0) == 0\n\n\ndef test_end():\n    assert double.wait(0) is False\n\n\n"
        "def test_never_alone():\n    assert os.environ.get('NEVER')\n"
    ),
    "beside/conftest.py": "",
    "beside/test_beside.py": "def test_it(): ...\n",
}
"""A project of two functions and four tests, of which the last fails whatever is changed; others have a conftest."""


CHANGED = "x - x"
IT, ZERO, END, ANYWAY = (f"test_double.py::test_{name}" for name in ("it", "zero", "end", "never_alone"))


def altered(before: str, after: str) -> Change:
    text = PROJECT["double.py"]
    assert text.count(before) == 1
    change = change_of("double.py", "any", text, text.replace(before, after))
    assert change is not None
    return change


IN_MEMORY: list[Plan] = [
    (altered("x + x", "x * x"), [ZERO, IT]),
    (altered("x + x", CHANGED), [ZERO, IT]),
    (altered("y = x + x", "pass"), [ANYWAY, ZERO, IT]),
    (altered("y = x + x", "pass"), [ANYWAY]),
    (altered("wait(x)\n", "wait()\n"), [IT, END]),
    (altered("Event().wait(x)", "max(iter(int, 1))"), [END]),
    (altered("y = x + x", "raise SystemExit(0)"), [ZERO]),
]
FROM_DISK: list[Plan] = [(altered("x + x", CHANGED), [IT])]
SECONDS = dict.fromkeys((IT, ZERO, ANYWAY), 10.0)
RUN = """
import os, pickle, sys
from pathlib import Path
from mutants import running

def work():
    os.chdir(project)
    sys.path.insert(0, str(project))
    runner = running.Runner(plans, seconds, project, lambda *_: None, in_memory=in_memory, slack=0.5)
    arguments = [*running.options(project), "test_double.py", "beside"]
    found = running.in_session(runner, arguments, project / "told", running.Verdict(running.CANNOT))
    (project / "found").write_bytes(pickle.dumps(found))

for project, plans, seconds, in_memory in pickle.load(sys.stdin.buffer):
    running.forked(work)
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Verdict]]:
    """What runners say of three projects, in a process of its own: each fork of one with all tests takes its time."""
    whole = PROJECT["double.py"]
    texts = {"memory": whole, "disk": whole.replace("x + x", CHANGED), "broken": "x = = 1"}
    folders = {name: tmp_path_factory.mktemp(name) for name in texts}
    for name, folder in folders.items():
        for file, text in {**PROJECT, "double.py": texts[name]}.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text)
    plans = {"memory": IN_MEMORY, "disk": FROM_DISK, "broken": FROM_DISK}
    runs = [(folder, plans[name], SECONDS, name != "disk") for name, folder in folders.items()]
    paths = os.pathsep.join(map(str, (ROOT / "functions", ROOT / "shared", ROOT)))
    subprocess.run(
        [sys.executable, "-c", RUN], input=pickle.dumps(runs), check=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert (folders["memory"] / "double.py").read_text() == whole
    return {name: pickle.loads((folder / "found").read_bytes()) for name, folder in folders.items()}


def test_a_run_says_what_noticed_a_change_and_counts_no_test_that_fails_anyway(
    verdicts: dict[str, list[Verdict]],
) -> None:
    assert verdicts["memory"] == [
        Verdict(SURVIVED),
        Verdict(NOTICED, IT),
        Verdict(NOTICED, IT),
        Verdict(UNTESTED),
        Verdict(HUNG, END),
        Verdict(HUNG, END),
        Verdict(NOTICED, ZERO),
    ]


def test_a_change_outside_of_functions_is_tried_from_the_changed_file(verdicts: dict[str, list[Verdict]]) -> None:
    assert verdicts["disk"] == [Verdict(NOTICED, IT)]


def test_what_cannot_be_loaded_gets_the_verdict_that_its_caller_names(verdicts: dict[str, list[Verdict]]) -> None:
    assert verdicts["broken"] == [Verdict(CANNOT)]
