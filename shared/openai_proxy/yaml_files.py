"""The owner's YAML files as plain values: mappings, lists and the scalars' own texts; nothing as None.

Its one rule: whatever bytes a file has, it is either read, or refused with the reason and the remedy. Nothing is
guessed: a key is a text that stands there once, a text is not taken for a number, and what an alias repeats (`*name`)
is bounded.

PyYAML takes several milliseconds of a cold start to load. A build therefore reads the owner's files once and writes
what they say as JSON (`as_built`), which is read without it.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BUILT = "# The build has read the owner's YAML file, and this is what it says.\n"
"""The first line of a file that `as_built` has made."""
MARK = "\ufeff"
"""What some editors put before a text. A codec of Python's knows it, and is one more module to load."""
_DEEPEST = 32
_MOST_VALUES = 100_000
_KEY = "write it as `name: value`"


class YamlFileError(ValueError):
    """What is wrong with a file. `path` and `name` say with which key, where it is one: `servers.a.url` and `url`."""

    def __init__(self, problem: str, remedy: str, path: str = "", name: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.path = path
        self.name = name


def read_text(path: Path) -> str:
    """The text of a file. Raises YamlFileError."""
    try:
        return path.read_bytes().decode().removeprefix(MARK)
    except UnicodeDecodeError as error:
        problem = f"cannot be read: byte {error.start + 1} is not UTF-8 ({error.reason})"
        raise YamlFileError(problem, "save the file as UTF-8") from error
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise YamlFileError(problem, "put a file there that may be read") from error


def plain_values(text: str) -> Any:
    """The one document of a YAML text, or of what `as_built` has made of one. Raises YamlFileError."""
    if text.startswith(BUILT):
        return _built_values(text.removeprefix(BUILT))
    import yaml  # noqa: PLC0415  # see above

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_depth(yaml.parse(text, Loader=loader))
        return _Reading().plain(yaml.compose(text, Loader=loader))
    except yaml.YAMLError as error:
        raise YamlFileError(f"is not valid YAML: {_in_one_line(error)}", "correct that place") from error


def _check_depth(events: Iterable[Any]) -> None:
    """Look how deep a text is nested before PyYAML makes nodes of it: one in the other, many would end the process."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind in ("SequenceStartEvent", "MappingStartEvent")
        depth -= kind in ("SequenceEndEvent", "MappingEndEvent")
        if depth > _DEEPEST + 1:
            raise _too_deep()


def _in_one_line(error: Any) -> str:
    """What PyYAML says in several lines: the place, and what is wrong there."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + (problem or " ".join(str(error).split()))


def is_number(value: Any) -> bool:
    """Whether a scalar is a number as people write it: 2, 0.25, 5e-7.

    Python reads 1_5 and digits of other scripts as well; whoever writes such a thing may mean 1.5, or nothing.
    """
    form = r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?"
    return isinstance(value, str) and re.fullmatch(form, value) is not None


def as_built(text: str) -> str:
    """A text that stands for the same values as a YAML text. Raises YamlFileError."""
    if text.startswith(BUILT):
        return text
    values = plain_values(text)
    return BUILT if values is None else f"{BUILT}{json.dumps(values)}\n"


def _built_values(text: str) -> Any:
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str) if text else None
    except (ValueError, RecursionError) as error:
        raise YamlFileError("is not what the build made of it", "build again") from error


class _Reading:
    """Makes nodes plain, and counts them: a few aliases of aliases stand for billions of values."""

    def __init__(self) -> None:
        self._values = 0

    def plain(self, node: Any, path: str = "", depth: int = 0) -> Any:
        """The values of a node that stands at `path`, below `depth` others."""
        self._values += 1
        if self._values > _MOST_VALUES:
            raise YamlFileError(f"stands for more than {_MOST_VALUES} values", "write no aliases (`*name`) of aliases")
        if depth > _DEEPEST:
            raise _too_deep()
        if node is not None and node.id == "mapping":
            return self._mapping(node, path, depth)
        if node is not None and node.id == "sequence":
            return [self.plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        return None if node is None or node.tag.endswith(":null") else node.value

    def _mapping(self, node: Any, path: str, depth: int) -> dict[str, Any]:
        """PyYAML keeps the last of two equal keys in silence; here that is a fault."""
        plain: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.id != "scalar":
                raise YamlFileError(f"has a key in line {line} that is no text", _KEY, path, path)
            name: str = key.value
            inner = f"{path}.{name}" if path else name
            if name in plain:
                raise YamlFileError(f"stands there twice (again in line {line})", f"remove line {line}", inner, name)
            plain[name] = self.plain(value, inner, depth + 1)
        return plain


def _too_deep() -> YamlFileError:
    return YamlFileError(f"has values that are nested more than {_DEEPEST} deep", "write them flat")
