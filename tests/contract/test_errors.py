"""`docs/errors.md` lists exactly the errors that the proxy makes, with their status."""

import ast
import re
from pathlib import Path

from openai_proxy.key_refusals import INVALID_KEY, TOKEN_REFUSALS

ROOT = Path(__file__).parents[2]
ERRORS = {"ClientError", "UpstreamError", "UnavailableError"}
ONE_STATUS = {"LimitError": "429", "NotAllowedError": "403"}
"""Errors whose class says their status."""


def raised() -> set[tuple[str, str]]:
    """Status and code of every error made in the proxy; the status is `as answered` where it is not a number."""
    found: set[tuple[str, str]] = set()
    for module in (ROOT / "functions" / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if (name := node.func.id) in ONE_STATUS:
                status, code = ast.Constant(ONE_STATUS[name]), node.args[0]
            elif name in ERRORS:
                status, code = node.args[:2]
            else:
                continue
            assert isinstance(code, ast.Constant), f"{module.name}:{node.lineno}: a code is written where it is raised"
            found.add((str(status.value) if isinstance(status, ast.Constant) else "as answered", str(code.value)))
    return found


def test_the_documented_errors_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| (\d{3}|as answered) \| `(\w+)` \|", text, re.MULTILINE)
    assert len(rows) == len(set(rows))
    only_in_events = set(re.findall(r"^\| `(\w+)` \| `(?:client|proxy)` \|", text, re.MULTILINE))
    made = raised() | {("401", code) for code in (INVALID_KEY, *TOKEN_REFUSALS)}
    assert set(rows) == {(status, code) for status, code in made if code not in only_in_events}
    assert only_in_events <= {code for _, code in raised()}
