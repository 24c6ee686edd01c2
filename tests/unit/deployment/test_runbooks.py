"""The address of the runbooks, from that of the repository."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deployment.runbooks import FILES, address_of, parameter_of

ROOT = Path(__file__).parents[3]
GITHUB = "https://github.com/team/proxy/blob/HEAD/docs/runbooks"


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/team/proxy.git", GITHUB),
        ("https://github.com/team/proxy", GITHUB),
        ("https://github.com/team/proxy/", GITHUB),
        ("https://ada:secret@github.com/team/proxy.git", GITHUB),
        ("git@github.com:team/proxy.git", GITHUB),
        ("ssh://git@github.com:22/team/proxy.git", GITHUB),
        ("https://gitlab.example.com/a/b/proxy.git", "https://gitlab.example.com/a/b/proxy/-/blob/HEAD/docs/runbooks"),
        ("git@bitbucket.org:team/proxy.git", "https://bitbucket.org/team/proxy/src/HEAD/docs/runbooks"),
        ("https://github.example.com:8443/t/p", "https://github.example.com:8443/t/p/blob/HEAD/docs/runbooks"),
        ("https://git.example.com/team/proxy.git", None),
        ("/srv/git/proxy.git", None),
        ("file:///srv/github/proxy.git", None),
        ("", None),
    ],
)
def test_the_repository_s_address(remote: str, address: str | None) -> None:
    assert address_of(remote) == address


def test_it_is_one_that_the_template_takes() -> None:
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    declared = yaml.safe_load(re.search(r"^  RunbooksUrl: (\{.*?\})$", text, re.DOTALL | re.MULTILINE)[1])  # type: ignore[index]
    assert declared["Default"] == FILES
    assert re.fullmatch(declared["AllowedPattern"], GITHUB)


def test_a_project_in_a_folder_of_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "proxy"
    folder.mkdir()
    for words in (["init", "-q"], ["remote", "add", "origin", "git@github.com:team/all.git"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    address = "https://github.com/team/all/blob/HEAD/proxy/docs/runbooks"
    assert parameter_of({}, {}, folder) == [f"RunbooksUrl={address}"]
    assert parameter_of({}, {"RunbooksUrl": FILES}, folder) == [f"RunbooksUrl={address}"]
    assert parameter_of({"RunbooksUrl": FILES}, {}, folder) == []
    assert parameter_of({}, {"RunbooksUrl": "https://wiki.example/runbooks"}, folder) == []


def test_without_a_repository_alarms_name_files(tmp_path: Path) -> None:
    assert parameter_of({}, {}, tmp_path) == []
