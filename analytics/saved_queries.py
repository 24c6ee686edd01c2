"""Copies the queries of this folder into `template.yaml`, which saves them in Athena: `make queries`.

The files are the source: the template holds their text because it has to be one file.
"""

import re
from pathlib import Path

_FOLDER = Path(__file__).parent
_TEMPLATE = _FOLDER.parent / "template.yaml"
_ROWS = re.compile(r"^  LakeQueries:\n.*?\n(?=\n*^\w)", re.MULTILINE | re.DOTALL)
_OF_THE_VIEW = "Makes the view that the other queries are about; run it once, and after an update of the stack"


def with_queries(template: str) -> str:
    """The text of the template, with the rows of its mapping LakeQueries written anew."""
    view = f"CREATE OR REPLACE VIEW inferences AS\n{_statement(_read(_FOLDER / 'inferences.sql'))}"
    rows = [_row("InferencesView", "create-view-inferences", _OF_THE_VIEW, view)]
    for file in sorted((_FOLDER / "queries").glob("*.sql")):
        sql = _read(file)
        description = sql.partition("\n")[0].removeprefix("-- ")
        rows.append(_row(f"{file.stem.title().replace('-', '')}Query", file.stem, description, _statement(sql)))
    written, replaced = _ROWS.subn(lambda _: "".join(["  LakeQueries:\n", *rows]), template)
    assert replaced == 1, "template.yaml has no mapping LakeQueries before its next section"
    return written


def _row(key: str, name: str, description: str, sql: str) -> str:
    quoted = description.replace("'", "''")
    lines = "".join(f"        {line}\n" if line else "\n" for line in sql.splitlines())
    return f"    {key}:\n      Name: {name}\n      Description: '{quoted}'\n      Sql: |\n{lines}"


def _statement(sql: str) -> str:
    """Without the comments that stand before it."""
    return re.sub(r"\A(--[^\n]*\n)+", "", sql)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


if __name__ == "__main__":
    _TEMPLATE.write_text(with_queries(_read(_TEMPLATE)), encoding="utf-8")
