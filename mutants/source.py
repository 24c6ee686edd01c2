"""Changes of a module that cosmic-ray has no operator for, and where in a module a line stands.

Its one rule: a change keeps the number of lines, so that all other functions stay what they are.

- `DropStatement`: a statement that does something becomes `pass`; so does a `return` of a value.
- `SwapArguments`: two arguments side by side exchange their places, or their names.
- `ChangeWord`: a text constant without a space, so a key or a code but no sentence, gets one letter more.
- `ReplaceException`: one class of an `except` becomes another, so that the handler no longer takes what it took.
"""

import ast
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SAME_EITHER_WAY = {"cast", "isinstance", "issubclass", "max", "min", "TypeVar"}


def function_at(text: str, lines: Iterable[int]) -> tuple[str, bool]:
    """The dotted name of the function or class that has these lines ("" outside), and whether they are in a body."""
    wanted = set(lines)
    names: list[str] = []
    within = False
    body: Sequence[ast.AST] = ast.parse(text).body
    while found := next((node for node in _definitions(body) if wanted <= _lines(node)), None):
        names.append(found.name)
        first = found.body[0].lineno
        within = isinstance(found, _FUNCTIONS) and all(line >= first for line in wanted)
        body = found.body
    return ".".join(names), within


def source_of(text: str, function: str) -> list[str] | None:
    """The lines of the function or class of a dotted name, not indented; all for "", None where there is none."""
    lines = [line.strip() for line in text.splitlines()]
    body: Sequence[ast.AST] = _parsed(text).body
    standing = [range(1, len(lines) + 1)]
    for name in function.split(".") if function else ():
        found = [node for node in _definitions(body) if node.name == name]
        body = [child for node in found for child in node.body]
        standing = [range(min(_lines(node)), max(_lines(node)) + 1) for node in found]
    return [lines[number - 1] for span in standing for number in span] if standing else None


def without_comment(line: str) -> str:
    """A line of code, or of a diff of it, without the comment at its end."""
    if "#" in line:
        with suppress(tokenize.TokenError, SyntaxError):  # half a statement
            for token in tokenize.generate_tokens(iter([line]).__next__):
                if token.type == tokenize.COMMENT:
                    return line[: token.start[1]].rstrip()
    return line


_parsed = lru_cache(maxsize=1)(ast.parse)
"""Many entries of `accepted.toml` are of one module."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _definitions(body: Sequence[ast.AST]) -> Iterator[Definition]:
    """Functions and classes that stand in these statements, in those below `if` or `try` too, but not in each other."""
    for node in body:
        if isinstance(node, Definition):
            yield node
        elif isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _definitions(list(ast.iter_child_nodes(node)))


def _lines(node: Definition) -> set[int]:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return set(range(first, (node.end_lineno or first) + 1))


@dataclass(frozen=True)
class _Text:
    """A module's text by positions of `ast`, which counts columns in bytes."""

    content: bytes
    starts: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> "_Text":
        content = text.encode()
        lengths = [len(line) for line in content.splitlines(keepends=True)]
        return cls(content, tuple(sum(lengths[:number]) for number in range(len(lengths) + 1)))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[end_line - 1] + end_column

    def segment(self, node: ast.expr | ast.stmt) -> bytes:
        first, end = self.span(node)
        return self.content[first:end]

    def with_instead(self, *parts: tuple[ast.expr | ast.stmt, bytes]) -> str:
        """The text with other bytes for some nodes, which come in the order of the text."""
        content = self.content
        for node, instead in reversed(parts):
            first, end = self.span(node)
            content = content[:first] + instead + content[end:]
        return content.decode()


def edits(text: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Every change of these kinds that a module allows: the kind's name, and what makes the changed text."""
    whole, tree = _Text.of(text), ast.parse(text)
    fixed = set(_not_to_be_changed(tree))
    for node in ast.walk(tree):
        if node in fixed:
            continue
        if isinstance(node, _FUNCTIONS):
            for statement in _droppable(node):
                yield "DropStatement", _Edit(whole, ((statement, _pass(whole.segment(statement))),))
        elif isinstance(node, ast.Call):
            for one, other in _swappable(node, whole):
                yield "SwapArguments", _Edit(whole, ((one, whole.segment(other)), (other, whole.segment(one))))
        elif isinstance(node, ast.Constant) and _is_word(node, whole.segment(node)):
            segment = whole.segment(node)
            yield "ChangeWord", _Edit(whole, ((node, segment[:-1] + b"X" + segment[-1:]),))
        elif isinstance(node, ast.ExceptHandler) and node.type:
            for each in node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]:
                yield "ReplaceException", _Edit(whole, ((each, b"ZeroDivisionError"),))


@dataclass(frozen=True)
class _Edit:
    whole: _Text
    parts: tuple[tuple[ast.expr | ast.stmt, bytes], ...]

    def __call__(self) -> str:
        return self.whole.with_instead(*self.parts)


def _not_to_be_changed(tree: ast.Module) -> Iterator[ast.AST]:
    """Annotations, types and docstrings, which do nothing; f-strings, whose parts have no positions in Python 3.11."""
    for node in ast.walk(tree):
        for kept in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(kept, ast.AST):
                yield from ast.walk(kept)
        if isinstance(node, ast.JoinedStr):
            yield from ast.walk(node)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cast":
            yield from node.args[:1]


def _droppable(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.stmt]:
    """Statements that a function could be without: not the only assignment of a name, which any test would miss."""
    statements = [node for node in _own(function) if isinstance(node, ast.stmt)]
    names = Counter(
        node.id for node in _own(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )
    for node in statements:
        match node:
            case ast.Expr(value=value):
                droppable = not isinstance(value, ast.Constant)
            case ast.Return(value=value):
                droppable = value is not None and not (isinstance(value, ast.Constant) and value.value is None)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                droppable = names[name] > 1
            case ast.Assign() | ast.AugAssign() | ast.Delete() | ast.Raise():
                droppable = True
            case _:
                droppable = False
        if droppable:
            yield node


def _own(function: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, Definition):
            yield child
            yield from _own(child)


def _pass(segment: bytes) -> bytes:
    return b"pass" + b"\n" * segment.count(b"\n")


def _swappable(call: ast.Call, whole: _Text) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Arguments side by side, and values of named arguments side by side."""
    if isinstance(call.func, ast.Name) and call.func.id in _SAME_EITHER_WAY:
        return
    named = [keyword.value for keyword in call.keywords if keyword.arg]
    for values in (call.args, named):
        for one, other in pairwise(values):
            if (
                whole.segment(one) != whole.segment(other)
                and not isinstance(one, ast.Starred)
                and not isinstance(other, ast.Starred)
            ):
                yield one, other


def _is_word(node: ast.Constant, segment: bytes) -> bool:
    """A text in one pair of quotes, on one line, with something but nothing blank in it."""
    value = node.value
    if not isinstance(value, str | bytes) or not value or len(value.split()) != 1:
        return False
    return segment[-1:] in {b'"', b"'"} and segment.count(segment[-1:]) == 2 and b"\n" not in segment
