"""The notebook and the dashboard of costs, over generated entries: what they show is what the entries say."""

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest
from openai_proxy.ledger.lake import lake_row

from tests.lake.engine import found, lake_of
from tests.lake.entries import made_entries
from tests.lake.expected import total

EXAMPLES = Path(__file__).parents[4] / "examples"
ENTRIES = made_entries(Random(4), 60)
ROWS: list[dict[str, Any]] = [dict(each.attributes) for each in ENTRIES]
DASHBOARD = json.loads((EXAMPLES / "grafana" / "costs.json").read_text(encoding="utf-8"))


def filled_lake() -> duckdb.DuckDBPyConnection:
    return lake_of(lake_row(each.key[1], each.attributes, "2026-02-20") for each in (*ENTRIES, *ENTRIES[::3]))


def test_the_notebook_shows_what_the_entries_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled_lake().execute(f"COPY entries TO '{tmp_path}' (FORMAT parquet, PARTITION_BY (dt))")
    monkeypatch.setenv("LAKE_FOLDER", str(tmp_path))
    monkeypatch.chdir(EXAMPLES / "notebook")
    notebook = json.loads((EXAMPLES / "notebook" / "costs.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), "it is kept without outputs"
        if cell["cell_type"] == "code" and "skip-execution" not in cell["metadata"].get("tags", ()):
            exec("".join(cell["source"]), names)
    assert names["by_day"]["requests"].sum() == len(ENTRIES), "copies are dropped"
    assert names["by_day"]["cost"].sum() == pytest.approx(float(total(ROWS, "cost")))
    assert set(names["by_client"]["client_id"]) == {row["client_id"] for row in ROWS}
    assert names["by_client"]["unpriced"].sum() == sum(row["pricing"] == "unpriced" for row in ROWS)
    assert list(names["first_chunk"].columns) == [0.5, 0.95]
    assert "tokens_per_dollar" in names["tokens_per_dollar"].columns


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["id"])
def test_a_panel_of_the_dashboard_asks_what_the_lake_knows(panel: dict[str, Any]) -> None:
    [target] = panel["targets"]
    dates = {"from": "2026-02-02", "to": "2026-02-15"}
    sql = re.sub(r"\$\{__(from|to):date:YYYY-MM-DD\}", lambda each: dates[each[1]], target["rawSQL"])
    assert "$" not in sql
    rows = found(filled_lake(), sql)
    assert rows
    assert (target["format"] == 0) == ("time" in rows[0]), "a curve needs the time, and nothing else does"
    if "requests" in rows[0]:
        assert sum(row["requests"] for row in rows) == len(ENTRIES)
    if "cost" in rows[0]:
        assert sum(row["cost"] or 0 for row in rows) == pytest.approx(float(total(ROWS, "cost")))
