"""`openai-proxy identity check`: what the file means, and what is wrong with it."""

import json
from pathlib import Path

import pytest

from console.__main__ import main

FILE = """
issuers:
  - {issuer: "https://id.example.com", audience: [chat, other], plans: {claim: tier, gold: pro, default: free}}
  - {issuer: "https://b.example.com", audience: chat, plan: free, jwks_url: "https://keys.example.net/jwks"}
plans:
  free: {servers: [demo], rpm: 10, budget_day: 0.5}
  pro: {client_id: paying, parallel: 2, budget_month: 20}
"""


def test_the_file_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "identity.yaml"
    file.write_text(FILE)
    assert main(["identity", "check", str(file)], {}) == 0
    out, err = capsys.readouterr()
    for text in ("tier {gold: pro}, else free", "10 rpm, 0.5 USD/day", "paying", "2 parallel, 20 USD/month"):
        assert text in out
    assert err == ""
    assert main(["identity", "check", str(file), "--json"], {}) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["plans"] for each in document["issuers"]] == [["pro", "free"], ["free"]]
    assert [(each["plan"], each["client_id"], each["budget_day"]) for each in document["plans"]] == [
        ("free", "free", "0.5"),
        ("pro", "paying", None),
    ]


def test_a_file_that_says_nothing_is_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (([], "names no issuer"), (["--json"], '"issuers": []')):
        assert main(["identity", "check", str(tmp_path / "identity.yaml"), *arguments], {}) == 0
        assert told in capsys.readouterr().out


def test_a_fault_is_told_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "identity.yaml"
    file.write_text(FILE.replace("gold: pro", "gold: platinum"))
    assert main(["identity", "check", str(file)], {}) == 1
    assert f"{file}: issuer 'https://id.example.com', key 'plans': there is no plan 'platinum'. Remedy: " in (
        capsys.readouterr().err
    )
    file.write_text(FILE.replace(", budget_day: 0.5", ""))
    assert main(["identity", "check", str(file)], {}) == 0
    assert "warning: " in capsys.readouterr().err
