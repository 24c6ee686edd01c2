"""Every `aws` command of the documents and of `doctor` is one of the AWS CLI: its operation, its waiter, its options.

The CLI makes its commands of the models that botocore carries. What it adds by itself is named here,
such as `s3` and `cloudformation deploy`.
"""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name

ROOT = Path(__file__).parents[2]
OF_THE_CLI = {"configure", "s3", "sso"}
OPTIONS_OF_ALL = {"query", "output", "region", "profile", "no-cli-pager", "endpoint-url"}
OWN = {
    "cloudformation": {"deploy": {"stack-name", "template-file", "capabilities", "parameter-overrides"}},
    "logs": {"tail": {"since", "filter-pattern", "follow"}},
    "sns": {"subscribe": {"topic-arn", "protocol", "notification-endpoint"}},
}
"""What it adds to a service, or calls otherwise."""
_IN_TEXT = r"(?:^|[`;|]|  )\s*(aws [a-z0-9-]+ [^`\n;|#]+)"
_SESSION: Any = botocore.session.get_session()


def commands() -> Iterator[str]:
    """The commands, each on one line and without what a shell adds to it."""
    for path in sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "template.yaml"]):
        text = path.read_text().replace("\\\n", " ").replace("$(", "\n").replace("&&", "\n")
        text = re.sub(r">-\n +", "", text)
        yield from (found[1] for found in re.finditer(_IN_TEXT, text, re.MULTILINE))
    for path in sorted(ROOT.glob("console/doctor/*.py")):
        text = re.sub(r'"\n\s+f?"', "", path.read_text())
        yield from (found[1] for found in re.finditer(r"""f?["(](aws [a-z0-9-]+ [^"'(]+)""", text))


@cache
def operations(service: str) -> dict[str, set[str]]:
    """The operations of a service, as the CLI calls them, and the options of each."""
    model: Any = _SESSION.get_service_model(service)
    found: dict[str, set[str]] = {}
    for name in model.operation_names:
        shape = model.operation_model(name).input_shape
        members: dict[str, Any] = {} if shape is None else shape.members
        options = {xform_name(member, "-") for member in members}
        switched = {f"no-{xform_name(each, '-')}" for each in members if members[each].type_name == "boolean"}
        found[xform_name(name, "-")] = options | switched
    return found


def words_of(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quotation that goes on behind a bar or a bracket
        return command.split()


def unknown_in(command: str) -> set[str]:
    """What of a command the CLI does not know."""
    _, service, operation, *rest = words_of(command)
    given = {word[2:].partition("=")[0] for word in rest if re.match(r"--[a-z]", word)} - OPTIONS_OF_ALL
    if service in OF_THE_CLI:
        return set()
    if operation == "wait":
        model: Any = _SESSION.get_waiter_model(service)
        return {rest[0]} - {xform_name(name, "-") for name in model.waiter_names}
    known = operations(service) | OWN.get(service, {})
    return {operation} if operation not in known else given - known[operation]


def test_the_cli_has_every_command() -> None:
    found = sorted(set(commands()))

    assert len(found) > 50
    assert {command: unknown for command in found if (unknown := unknown_in(command))} == {}


def test_what_the_cli_has_not_is_noticed() -> None:
    assert unknown_in("aws lambda stop-function --function-name x") == {"stop-function"}
    assert unknown_in("aws lambda get-function --name x --query y") == {"name"}
    assert unknown_in("aws acm wait certificate-made") == {"certificate-made"}
