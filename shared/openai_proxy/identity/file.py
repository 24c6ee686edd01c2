"""Reads `identity.yaml`: `issuers`, a list, and `plans`, by their names.

Its one rule: a file with any fault is refused whole, with the file, the issuer or plan, the key and the remedy.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from openai_proxy.client_keys import BUDGET_OF_RESET, BUDGETS
from openai_proxy.identity.issuer import Issuer, is_loopback, read_issuer
from openai_proxy.identity.plan import Plan, read_plan
from openai_proxy.identity.values import EntryError, check_names, mapping

_MOST_ISSUERS = 20
_MOST_PLANS = 100
_REMEDY = "write issuers: [{issuer: …, audience: …, plan: NAME}] and plans: {NAME: {…}}"


class IdentityFileError(ValueError):
    """The identity file cannot be used. The message names file, issuer or plan, key and remedy."""


class Identity(NamedTuple):
    """Who may come with a token, by issuer, and the plans, by name."""

    issuers: Mapping[str, Issuer]
    plans: Mapping[str, Plan]


def load_identity(path: Path, *, allow_loopback: bool = False) -> Identity | None:
    """Read and check the file at `path`; None where there is no file, or nothing but comments in it: identity is off.

    Raises IdentityFileError.
    """
    if not path.exists():
        return None
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        problem = f"cannot be read: byte {error.start + 1} is not UTF-8"
        raise IdentityFileError(f"{path}: {problem}. Remedy: save the file as UTF-8.") from error
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise IdentityFileError(f"{path}: {problem}. Remedy: put a file there that may be read.") from error
    return parse_identity(text, str(path), allow_loopback=allow_loopback)


def parse_identity(text: str, file: str = "identity.yaml", *, allow_loopback: bool = False) -> Identity | None:
    """Check the text of an identity file; None where it says nothing. Raises IdentityFileError."""
    text = text.removeprefix("\ufeff")  # what some editors put before a text
    if all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines()):
        return None
    from openai_proxy.yaml_files import YamlFileError, plain_values  # noqa: PLC0415  # most stacks have no issuer

    try:
        document = plain_values(text)
    except YamlFileError as fault:
        key = f" '{fault.name}'" if fault.name else ""
        raise IdentityFileError(f"{file}:{key} {fault.problem}. Remedy: {fault.remedy}.") from fault
    return None if document is None else _identity(document, file, allow_loopback=allow_loopback)


def _identity(document: Any, file: str, *, allow_loopback: bool) -> Identity:
    plans: dict[str, Plan] = {}
    issuers: dict[str, Issuer] = {}
    place = ""
    try:
        given = mapping("", document, _REMEDY)
        check_names(given, ("issuers", "plans"))
        for name, value in _plans(given.get("plans")).items():
            place = f" plan '{name[:64]}',"
            plans[name] = read_plan(name, value)
        place = ""
        for number, value in enumerate(_issuers(given.get("issuers")), 1):
            place = f" issuer {number},"
            issuer = read_issuer(value, allow_loopback=allow_loopback)
            place = f" issuer '{issuer.issuer}',"
            _check(issuer, issuers, plans)
            issuers[issuer.issuer] = issuer
    except EntryError as fault:
        where = f"{place} key '{fault.key}'" if fault.key else place.removesuffix(",")
        where = f":{where}" if where else ""
        raise IdentityFileError(f"{file}{where}: {fault.problem}. Remedy: {fault.remedy}.") from fault
    return Identity(issuers, plans)


def warnings_of(identity: Identity, file: str = "identity.yaml") -> list[str]:
    """What is allowed but should be known: a plan that nobody gets, one without limits, a setting without effect, an
    issuer of this machine.
    """
    return list(_warnings(identity, file))


def _warnings(identity: Identity, file: str) -> Iterator[str]:
    used = {name for issuer in identity.issuers.values() for name in issuer.plan.names}
    for plan in identity.plans.values():
        if plan.name not in used:
            yield f"{file}: plan '{plan.name}': no issuer gives it. Remedy: name it in `plan` or `plans` of one."
        elif not any(name in plan.limits for name in BUDGETS):
            remedy = f"Remedy: add one of {', '.join(BUDGETS)}."
            yield f"{file}: plan '{plan.name}': each of its users may spend without end. {remedy}"
        for reset, budget in BUDGET_OF_RESET.items():
            if reset in plan.limits and budget not in plan.limits:
                remedy = f"Remedy: add {budget}, or leave {reset} out."
                yield f"{file}: plan '{plan.name}': {reset} has no effect without {budget}. {remedy}"
    for issuer in identity.issuers.values():
        if is_loopback(issuer.issuer):
            remedy = "Remedy: use an https address where it is deployed."
            yield f"{file}: issuer '{issuer.issuer}': good on this machine alone. {remedy}"


def _plans(value: Any) -> Mapping[str, Any]:
    listed = mapping("plans", value, _REMEDY)
    if len(listed) > _MOST_PLANS:
        raise EntryError("plans", f"more than {_MOST_PLANS} plans", "leave some out")
    return listed


def _issuers(value: Any) -> list[Any]:
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_ISSUERS:  # pyright: ignore[reportUnknownArgumentType]
        raise EntryError("issuers", f"not a list of 1 to {_MOST_ISSUERS} issuers", _REMEDY)
    return value  # pyright: ignore[reportUnknownVariableType]


def _check(issuer: Issuer, others: Mapping[str, Issuer], plans: Mapping[str, Plan]) -> None:
    if issuer.issuer in others:
        raise EntryError("issuer", "stands there twice", "write one entry with a list as its audience")
    for name in issuer.plan.names:
        if name not in plans:
            raise EntryError(
                "plans" if issuer.plan.claim else "plan", f"there is no plan '{name}'", "name one of `plans`"
            )
