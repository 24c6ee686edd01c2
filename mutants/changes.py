"""Small changes of a module, each made alone: what a mutant is, and which there are.

Its one rule: a change is text in, text out. Nothing here runs a test or writes a file.

cosmic-ray makes most of them (`OPERATORS`), `mutants.source` those that it has no operator for. An operator of the
language becomes the nearest others, as `<` becomes `<=` and `>`: with all others, arithmetic would be most of all.
"""

import ast
import difflib
import importlib
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from mutants.source import edits, function_at

_COMPARISONS = (
    *("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "LtE_GtE", "Gt_Lt", "GtE_LtE"),
    *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
)
_ARITHMETIC = (
    *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Add", "Pow_Mul"),
    *("BitOr_BitAnd", "BitAnd_BitOr", "LShift_RShift", "RShift_LShift"),
)
OPERATORS = (
    *(f"core/ReplaceComparisonOperator_{pair}" for pair in _COMPARISONS),
    *(f"core/ReplaceBinaryOperator_{pair}" for pair in _ARITHMETIC),
    *("core/ReplaceUnaryOperator_Delete_Not", "core/ReplaceUnaryOperator_Delete_USub", "core/AddNot"),
    *("core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue", "core/ReplaceAndWithOr", "core/ReplaceOrWithAnd"),
    *("core/ReplaceBreakWithContinue", "core/ReplaceContinueWithBreak", "core/ZeroIterationForLoop"),
    *("core/NumberReplacer", "core/RemoveDecorator"),
)
"""cosmic-ray's names of the operators that are used."""


@dataclass(frozen=True)
class Change:
    """One mutant: its `module` (path from the checkout), dotted `function`, and the module's whole new `source`.

    `lines` are the lines that it touches; `within` says whether all of them are in the body of a function. `diff`
    has the removed and the added lines, not indented: the same wherever in the file the function stands.
    """

    module: str
    function: str
    operator: str
    lines: tuple[int, ...]
    within: bool
    source: str
    diff: str


Make = Callable[[], str | None]
"""Makes the changed text of a module, or None where there is no change to make."""


def sample(sources: dict[str, str], count: int | None, seed: int) -> list[Change]:
    """`count` changes of these modules at random, or all of them: a path and a text for each module."""
    places = [(module, operator, make) for module, text in sources.items() for operator, make in _places(text)]
    random.Random(seed).shuffle(places)  # noqa: S311 (no secret)
    found: dict[tuple[str, str], Change] = {}
    for module, operator, make in places:
        change = change_of(module, operator, sources[module], make())
        if change is not None:
            found.setdefault((module, change.source), change)
        if count is not None and len(found) >= count:
            break
    return list(found.values())


def change_of(module: str, operator: str, before: str, after: str | None) -> Change | None:
    """The change from one text to the other; None where Python would do the same, or could not read it."""
    if after is None or not _differs(before, after):
        return None
    old, new = before.splitlines(), after.splitlines()
    blocks = [
        block for block in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if block[0] != "equal"
    ]
    lines = tuple(line for _, first, end, _, _ in blocks for line in range(first + 1, max(end, first + 1) + 1))
    texts = [f"-{line.strip()}" for _, first, end, _, _ in blocks for line in old[first:end] if line.strip()]
    texts += [f"+{line.strip()}" for _, _, _, first, end in blocks for line in new[first:end] if line.strip()]
    function, within = function_at(before, lines)
    return Change(module, function, operator.removeprefix("core/"), lines, within, after, "\n".join(texts))


def _differs(before: str, after: str) -> bool:
    try:
        return _meaning(after) != _meaning(before)
    except SyntaxError:
        return False


class _Bare(ast.NodeTransformer):
    """Takes away what does nothing when a program runs: annotations, types, `TYPE_CHECKING`, `__all__`, `slots`.

    So does the `*` of a signature, which to cosmic-ray is an operator: its callers name what they may name.
    """

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        if not node.vararg and not node.kwarg:
            plain = [*node.posonlyargs, *node.args]
            defaults = [*[None] * (len(plain) - len(node.defaults)), *node.defaults, *node.kw_defaults]
            node.args, node.posonlyargs, node.kwonlyargs, node.kw_defaults = [*plain, *node.kwonlyargs], [], [], []
            node.defaults = [each or ast.Name("") for each in defaults]
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        names = [each.id for each in ast.walk(node.test) if isinstance(each, ast.Name)]
        return None if names == ["TYPE_CHECKING"] else self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        is_type = all(re.fullmatch(r"[A-Z][a-z]\w*", name) for name in names)  # no constant is called so
        return None if (names and is_type) or names == ["__all__"] else self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST | None:
        return None if node.arg in ("slots", "frozen") else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _meaning(text: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(text)))


def _places(text: str) -> Iterator[tuple[str, Make]]:
    """Every place of a module that an operator can change, with the name of the operator."""
    yield from edits(text)
    yield from _of_cosmic_ray(text, OPERATORS)


class _Operator(Protocol):
    """What is used of cosmic-ray's operators, whose package has no types."""

    def mutation_positions(self, node: object) -> Iterable[object]: ...


def _of_cosmic_ray(text: str, names: Sequence[str]) -> Iterator[tuple[str, Make]]:
    plugins, trees, mutating = (
        importlib.import_module(f"cosmic_ray.{name}") for name in ("plugins", "ast", "mutating")
    )
    nodes = list(cast("Iterable[object]", trees.ast_nodes(trees.get_ast(text))))
    for name in names:
        operator = cast("_Operator", plugins.get_operator(name)())
        for occurrence in range(sum(1 for node in nodes for _ in operator.mutation_positions(node))):
            yield name, _Mutate(mutating.mutate_code, text, operator, occurrence)


@dataclass(frozen=True)
class _Mutate:
    """The mutation of a text by an operator of cosmic-ray, at one of the places that it finds."""

    mutate_code: Callable[[str, _Operator, int], str | None]
    text: str
    operator: _Operator
    occurrence: int

    def __call__(self) -> str | None:
        return self.mutate_code(self.text, self.operator, self.occurrence)
