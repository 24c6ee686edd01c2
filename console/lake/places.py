"""Where an error of SQL is in what a person wrote, rather than in the statement that was made of it. Pure."""

import re

_TRINO = re.compile(r"\bline (\d+):(\d+)")
_DUCKDB = re.compile(r"\s*^LINE (\d+): (.*)\n( *)\^+.*", re.MULTILINE)
_OF_THE_VIEW = "in the view `inferences`"


def in_own_text(message: str, sql: str, before: int) -> str:
    """An error's message with lines and columns of `sql`, which has `before` more lines before it in the statement.

    Athena says `line 3:8:`. DuckDB shows the line with a mark below it; the same is said in Athena's form.
    """
    if found := _DUCKDB.search(message):
        line, shown, mark = int(found[1]) - before, found[2], len(found[3]) - len(f"LINE {found[1]}: ")
        rest = message[: found.start()] + message[found.end() :]
        return f"{_place(line, _column(sql, line, shown[mark:]))}: {' '.join(rest.split())}"
    return _TRINO.sub(lambda found: _place(int(found[1]) - before, int(found[2])), message)


def _place(line: int, column: int | None) -> str:
    if line < 1:
        return _OF_THE_VIEW
    return f"line {line}" if column is None else f"line {line}:{column}"


def _column(sql: str, line: int, shown: str) -> int | None:
    """Where a line has what DuckDB shows of it behind its mark; None where that is not clear: tables have other names
    there.
    """
    lines = sql.split("\n")
    if not 1 <= line <= len(lines) or not shown:
        return None
    own, told = lines[line - 1].rstrip().rstrip(";"), shown.removesuffix("...").rstrip()
    for part in (told, re.split(r"\W", told, maxsplit=1)[0]):
        if part and own.count(part) == 1:
            return own.index(part) + 1
    return None
