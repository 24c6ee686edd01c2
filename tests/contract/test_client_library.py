"""The library for browsers and Node: small, without dependencies, and what the playground serves is built from it."""

import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "clients/js"
BUILT = ROOT / "functions/proxy/endpoints/playground_files/vendor/resumable-fetch/resumable-fetch.js"
MOST_BYTES, MOST_PACKED = 9_000, 4_000


def test_it_is_a_few_kilobytes():
    built = BUILT.read_bytes()
    assert len(built) <= MOST_BYTES
    assert len(gzip.compress(built, mtime=0)) <= MOST_PACKED


def test_what_is_served_was_built_from_the_sources():
    package = json.loads((LIBRARY / "package.json").read_text())
    sources = hashlib.sha256()
    for file in sorted((LIBRARY / "src").iterdir()):
        sources.update(file.read_bytes())
    first, _, _ = BUILT.read_text().partition("\n")
    wanted = f"{package['name']} {package['version']}, {package['license']}, of sources {sources.hexdigest()}"
    assert first == f"/*! {wanted} */", "it is old: make client"


def test_it_needs_nothing_when_it_runs():
    package = json.loads((LIBRARY / "package.json").read_text())
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & set(package)
    imported = {
        name for file in (LIBRARY / "src").iterdir() for name in re.findall(r'from "([^"]+)"', file.read_text())
    }
    assert {name for name in imported if not name.startswith("./")} == set()


def test_what_builds_it_is_locked_by_hash_and_names_no_address():
    packages: dict[str, dict[str, Any]] = json.loads((LIBRARY / "package-lock.json").read_text())["packages"]
    locked = {name: package for name, package in packages.items() if name}
    assert locked
    assert all(package["integrity"].startswith("sha512-") for package in locked.values())
    assert not [name for name, package in locked.items() if "resolved" in package]
