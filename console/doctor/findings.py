"""What a look at a stack found, as a value: for people a table and a list of what to do, for programs JSON. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from console.tables import Columns, table
from console.text import harmless

State = Literal["ok", "note", "todo", "unread", "unknown"]
"""`note` is worth knowing, and nobody has to act; `unread` could not be read, or this caller may not read it;
`unknown` is what the account itself cannot tell, such as the quotas of an emulator."""

WORDS: Mapping[State, str] = {
    "ok": "ok",
    "note": "note",
    "todo": "TO DO",
    "unread": "NOT READ",
    "unknown": "not known here",
}


class Finding(NamedTuple):
    """One thing that was looked at. `remedy` is what to do, with its command; it is there for `todo` and `unread`."""

    area: str
    subject: str
    state: State
    says: str
    remedy: str = ""


def exit_code(findings: Sequence[Finding]) -> int:
    """0 all is well, 1 there is something to do, 2 there is nothing to do in what could be read, and not all could."""
    states = {finding.state for finding in findings}
    return 1 if "todo" in states else 2 if "unread" in states else 0


def as_json(findings: Sequence[Finding], stack: str, region: str) -> dict[str, Any]:
    """The findings for programs."""
    return {
        "stack": stack,
        "region": region,
        "exit_code": exit_code(findings),
        "findings": [finding._asdict() | {"remedy": finding.remedy or None} for finding in findings],
    }


def as_text(findings: Sequence[Finding], width: int | None = None) -> str:
    """The findings for people. Commands stand below the table, where nothing shortens them."""
    rows = [
        (finding.area, harmless(finding.subject), WORDS[finding.state], harmless(finding.says)) for finding in findings
    ]
    shown = table(Columns(("AREA", "WHAT", "STATE", "FOUND"), drop=("AREA",), whole=("STATE",)), rows, width=width)
    return "\n\n".join([shown, *_to_do(findings), _summary(findings)])


def _to_do(findings: Sequence[Finding]) -> list[str]:
    """What is to be done, each thing under what was found in full."""
    paragraphs = [
        f"{WORDS[finding.state]}  {harmless(finding.subject)}: {harmless(finding.says)}\n    {harmless(finding.remedy)}"
        for finding in sorted(findings, key=lambda each: each.state != "todo")
        if finding.remedy
    ]
    return ["\n".join(paragraphs)] if paragraphs else []


def _summary(findings: Sequence[Finding]) -> str:
    counts = {state: sum(finding.state == state for finding in findings) for state in WORDS}
    parts = [f"{counts['todo']} to do" if counts["todo"] else "Nothing to do"]
    if counts["unread"]:
        parts.append(f"{counts['unread']} could not be read")
    if counts["unknown"]:
        parts.append(f"{counts['unknown']} not known here")
    return f"{len(findings)} looked at. {', '.join(parts)}."
