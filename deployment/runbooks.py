"""Where the runbooks of this checkout can be read on the web, for the links in the texts of alarms.

Its one rule: only an address that is known to be right is a link. Where the repository's host has another form of
address, or there is no repository, alarms name the file.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

PARAMETER = "RunbooksUrl"
FILES = "docs/runbooks"
"""The template's default, under which alarms name files of a checkout."""
_FORMS: Mapping[str, str] = {"github": "blob/HEAD", "gitlab": "-/blob/HEAD", "bitbucket": "src/HEAD"}
"""The path of a file of the default branch, by a word in the name of the host."""
_REMOTES = (
    re.compile(r"https://(?:[^@/\s]*@)?(?P<host>[a-z0-9.-]+(?::\d+)?)/(?P<path>[\w./-]+?)(?:\.git)?/?", re.IGNORECASE),
    re.compile(r"ssh://(?:[^@/\s]*@)?(?P<host>[a-z0-9.-]+)(?::\d+)?/(?P<path>[\w./-]+?)(?:\.git)?/?", re.IGNORECASE),
    re.compile(r"(?:[^@/\s:]*@)?(?P<host>[a-z0-9.-]+):(?P<path>[\w./-]+?)(?:\.git)?/?", re.IGNORECASE),
)


def parameter_of(given: Mapping[str, str], deployed: Mapping[str, str], root: Path) -> list[str]:
    """`RunbooksUrl` as a parameter of `sam deploy`: the repository's. None where it is given, where the stack has one
    already, or where the repository has none.
    """
    if PARAMETER in given or deployed.get(PARAMETER, FILES) != FILES:
        return []
    remote, folder = _git(root, "remote", "get-url", "origin"), _git(root, "rev-parse", "--show-prefix")
    address = address_of(remote, folder)
    return [f"{PARAMETER}={address}"] if address else []


def address_of(remote: str, folder: str = "") -> str | None:
    """The address of the runbooks in a repository, without what signs in to it; None for an unknown host. `folder` is
    that of the project in it, as "proxy/".
    """
    for form in _REMOTES:
        if found := form.fullmatch(remote):
            host = found["host"].lower()
            ways = [way for word, way in _FORMS.items() if word in host]
            return f"https://{host}/{found['path'].strip('/')}/{ways[0]}/{folder}{FILES}" if ways else None
    return None


def _git(root: Path, *words: str) -> str:
    """What git says of the checkout; "" where there is none, or no git."""
    try:
        ran = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""
