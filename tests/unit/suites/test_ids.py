"""Ids of tests are the same in every run: workers share them, and a case that failed can be run again by its id."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
ADDRESS = re.compile(r"0x[0-9a-f]{6,}|<[\w.]+ object|\bobject at\b")
TAKES_TIME_OR_CHANCE = frozenset(
    {
        *("time", "time_ns", "monotonic", "perf_counter", "now", "utcnow", "today", "localtime", "gmtime"),
        *("uuid1", "uuid4", "urandom", "token_hex", "token_bytes", "token_urlsafe", "randbelow"),
        *("random", "randint", "randrange", "choice", "choices", "sample", "shuffle", "getrandbits"),
        *("new_ulid", "getpid", "id", "mkdtemp", "gettempdir", "gethostname"),
    }
)
CALLS_ONE = re.compile(rf"\b(?:{'|'.join(sorted(TAKES_TIME_OR_CHANCE))})\(")


def calls_at_import(node: ast.AST) -> Iterator[ast.Call]:
    """Every call that is made when a module is loaded: of functions only what decorates them, and their defaults."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        decorators = node.decorator_list if not isinstance(node, ast.Lambda) else []
        for each in (*decorators, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            yield from calls_at_import(each)
        return
    if isinstance(node, ast.Call):
        yield node
    for each in ast.iter_child_nodes(node):
        yield from calls_at_import(each)


def changing(source: str) -> list[str]:
    """What a module takes from a clock, or from chance, when it is loaded."""
    found: list[str] = []
    if not CALLS_ONE.search(source):
        return found  # most modules need not be parsed
    for call in calls_at_import(ast.parse(source)):
        called = call.func
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        if name in TAKES_TIME_OR_CHANCE:
            found.append(f"{call.lineno}: {ast.unparse(call)}")
    return found


def test_no_test_module_takes_a_moment_or_chance_when_it_is_collected() -> None:
    found = {
        path.relative_to(TESTS).as_posix(): calls
        for path in sorted(TESTS.rglob("*.py"))
        if (calls := changing(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "NOW = time.time()",
        "CASES = [(str(uuid.uuid4()), 1)]",
        "class A:\n    key = token_hex(8)",
        "@pytest.mark.parametrize('day', [date.today()])\ndef test_a(day): ...",
        "def test_a(at=datetime.now(UTC)): ...",
    ],
)
def test_what_would_change_is_found(source: str) -> None:
    assert changing(source)


def test_what_is_taken_later_is_not() -> None:
    assert not changing("def test_a():\n    return time.time()")


def test_ids_hold_no_address_and_name_one_test_each(request: pytest.FixtureRequest) -> None:
    ids = [item.nodeid for item in request.session.items]
    assert [each for each in ids if ADDRESS.search(each)] == []
    assert len(ids) == len(set(ids))
