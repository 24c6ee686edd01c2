"""The commands of every page, run as they are pasted: each block in the shell of its page, against a running stack.

What `openai-proxy` and `aws` are told is carried out in this process, which takes a tenth of the time of a process of
its own; how that process begins and ends is tested elsewhere. Its one rule: what is not run is named in NOT_HERE, with
the reason.
"""

import contextlib
import functools
import io
import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from openai_proxy.client_keys import TEAM_PREFIX
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.guards.overlay import GUARD_PREFIX
from openai_proxy.identity import user_id_of
from openai_proxy.ledger.entries import LedgerEntry, entry_of
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import parse_price_book

from console.command_line import main
from tests.costs_fake import FakeCostsTable
from tests.e2e.aws_command import aws
from tests.e2e.harness import ROOT, LocalStack
from tests.fakes import read_event

PAGES = sorted([ROOT / "README.md", *(page for page in ROOT.glob("docs/**/*.md") if page.parent.name != "adr")])
NOT_HERE: Mapping[str, str] = {
    r"\bmake |\bgit |\bsam delete|service-quotas|\bacm |wafv2|apigateway |\biam ": "it changes an account on AWS",
    r"\baws [a-z0-9-]+ (put-secret-value|set-alarm-state)|github-deploys": "it changes an account on AWS",
    r"start-message-move-task|-replay --replay-name": "the emulator has no such task",
    r"\baws cloudformation list-stack": "it is about a stack that was deleted",
    r"\$\(out |python=python|\$id/dev|\$host|FunctionUrl \| cut|\bkept ": "it is about a stack deployed by hand",
    r"pip install|/bin/openai-proxy --help": "it installs the command elsewhere",
    r"-m conformance|bin/ministack|receiver\.py": "it starts servers that go on; other tests run them",
    r"prices refresh": "it asks a package registry",
    r"open-webui serve": "it is a server of two gigabytes",
    r"--live": "it asks the providers",
    r"/exports/|LLM_USER_PATH|AWS_PROFILE=": "it is about files and names of the reader's own",
    r"openai-proxy top$|openai-proxy top (?!.*--once)": "it goes on until q is pressed",
    r"bedrock/v1|\$domain|--stack-name openai-proxy-test|openai-proxy-test ": "it is about a server or a stack on AWS",
    r"^[^#\n]*…": "a part of it is left out",
}
NO_ZERO: Mapping[str, tuple[int, ...]] = {
    r"openai-proxy (costs reconcile|events dead-letters)\b": (1,),
    r"openai-proxy doctor\b": (1, 2),
    r"openai-proxy teams delete web\b": (2,),
}
"""What may end otherwise than with 0: with 1 where something was found, with 2 where the page itself says so. The
doctor ends with 2 where something cannot be asked, as an emulator on a busy machine that does not answer in time.
"""
TOOLS = ("curl", "jq")
"""What pages use that a bare machine may not have. A page that needs more than there is, is skipped."""
KEY_ID = "3f2a91c07be4"
_BLOCK = re.compile(r"^```(?:sh|bash|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROGRAM = """#!/bin/bash
# Has the test's process run the command: its name and words, then what stands on standard input if that is asked for.
exec 3<>"/dev/tcp/127.0.0.1/$OPENAI_PROXY_PORT"
IFS=$'\\x1f'
set -- "${0##*/}" "$@"
printf '%s\\x1e' "$*" >&3
[ "${*: -1}" != - ] || cat >&3
printf '\\x1d' >&3
IFS= read -r -d $'\\x1e' out <&3; IFS= read -r -d $'\\x1e' err <&3; IFS= read -r -d $'\\x1e' code <&3
printf %s "$out"; printf %s "$err" >&2
exit "$code"
"""


_CURL = """#!/bin/bash
# curl, which fails where there is no such path: by itself it takes any answer.
exec 3>&1
said=$("$REAL_CURL" -w '%{stderr}\n%{http_code}' "$@" 2>&1 >&3); code=$?
printf '%s\n' "$said" >&2
case "$said" in *404 | *405) exit 22 ;; esac
exit "$code"
"""

_SESSION: Any = boto3.Session


def _session(**options: Any) -> Any:
    """Makes each client once: that takes longer than what most commands do with it."""
    made = _SESSION(**options)
    made.client = functools.cache(made.client)
    return made


class Commands(socketserver.ThreadingTCPServer):
    """Carries out what the shells of pages ask `openai-proxy`, one after the other."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.environ = environ
        self.one = threading.Lock()


class _Asked(socketserver.StreamRequestHandler):
    server: Commands  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle(self) -> None:
        text = b""
        while not text.endswith(b"\x1d"):
            text += self.rfile.read(1)
        words, _, given = text[:-1].decode().partition("\x1e")
        with self.server.one:
            program, *arguments = words.split("\x1f")
            code, out, err = aws(arguments) if program == "aws" else self._run(arguments, given)
        self.wfile.write(f"{out}\x1e{err}\x1e{code}\x1e".encode())

    def _run(self, words: list[str], given: str) -> tuple[int | str | None, str, str]:
        out, err, before = io.StringIO(), _Terminal(), sys.stdin
        sys.stdin = io.StringIO(given) if given else _Terminal("y\n")
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code: int | str | None = main(words, self.server.environ)
                except SystemExit as end:
                    code = end.code
                except Exception as error:  # noqa: BLE001 - the shell is to see what a person would see
                    code = 70
                    err.write(repr(error))
        finally:
            sys.stdin = before
        return code, out.getvalue(), err.getvalue()


class _Terminal(io.StringIO):
    """Where a person sits, who says yes to what is asked."""

    def isatty(self) -> bool:
        return True


@dataclass
class Folder:
    """Where a person stands who follows the pages: a checkout with a running stack, and files of their own."""

    path: Path
    stack: LocalStack
    port: int

    def _port_for(self, usual: str) -> int:
        """The port of this stack in the place of the one that `make run` takes unless it is told otherwise."""
        names = {"8080": "PORT", "8091": "ISSUER_PORT"}
        return self.stack.ports[names[usual]] if usual in names else int(usual)

    def paste(self, commands: list[str]) -> dict[str, tuple[int, str]]:
        """Run commands in one shell. Those that failed, with their exit code and what was said."""
        lines = [". .local/env", f'export PATH="{self.path}/.venv/bin:$PATH"', "exec 2>>said"]
        for number, text in enumerate(commands):
            command = re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{self._port_for(found[1])}", text)
            lines += [": > said", command, f"code=$?; [ $code = 0 ] || {{ echo {number} $code; cat said; }} >> failed"]
        (self.path / "failed").unlink(missing_ok=True)
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.path), "OPENAI_PROXY_PORT": str(self.port)}
        environ["REAL_CURL"] = shutil.which("curl") or "curl"
        subprocess.run(
            ["bash", "-c", "\n".join(lines)], cwd=self.path, env=environ, check=False, stdout=subprocess.DEVNULL
        )
        if not (self.path / "failed").exists():
            return {}
        found: dict[str, tuple[int, str]] = {}
        for line in (self.path / "failed").read_text().splitlines():
            if match := re.fullmatch(r"(\d+) (\d+)", line):
                last = commands[int(match[1])]
                found[last] = (int(match[2]), "")
            elif found:
                last = [*found][-1]
                found[last] = (found[last][0], found[last][1] + line)
        return found


def complete(block: str) -> Iterator[str]:
    """The commands of a block, each with all of its lines."""
    lines: list[str] = []
    for line in block.splitlines():
        lines.append(line)
        text = "\n".join(lines)
        if not line.endswith("\\") and _is_complete(text):
            lines.clear()
            if text.strip() and not text.lstrip().startswith("#"):
                yield text


def _is_complete(text: str) -> bool:
    if not re.search(r"[\"'`{(]|<<|\b(for|while|if)\b|\|\s*$", text):
        return True
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    return done.returncode == 0 and "here-document" not in done.stderr and not text.rstrip().endswith("|")


def commands_of(page: Path) -> list[str]:
    """The commands of a page that can be run here."""
    blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [each for block in blocks for each in complete(block) if not excuse(each)]


def excuse(command: str) -> str | None:
    """Why a command is not run; None for one that is."""
    return next((why for pattern, why in NOT_HERE.items() if re.search(pattern, command, re.MULTILINE)), None)


WITH_COMMANDS = [page for page in PAGES if commands_of(page)]


@pytest.fixture(scope="module")
def folder(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    path = tmp_path_factory.mktemp("checkout")
    for name in ("prices.yaml", "openai_servers.yaml", "identity.yaml", "guards.yaml"):
        shutil.copy(ROOT / name, path / name)
    shutil.copy(ROOT / "prices.yaml", path / "next-year.yaml")
    (path / ".local").symlink_to(stack.folder)
    (path / ".venv" / "bin").mkdir(parents=True)
    for name, text in (("openai-proxy", _PROGRAM), ("aws", _PROGRAM), ("curl", _CURL)):
        program = path / ".venv" / "bin" / name
        program.write_text(text)
        program.chmod(0o755)
    (path / "report.sql").write_text("SELECT count(*) AS requests FROM inferences\n")
    today = datetime.now(UTC).date()
    (path / "usage.csv").write_text(f"date,model,input_tokens,output_tokens\n{today},gpt-5.4,1,1\n")
    (path / "costs.csv").write_text(f"date,model,cost\n{today},gpt-5.4,0.01\n")
    with pytest.MonkeyPatch.context() as patch, Commands(stack.environment) as commands:
        patch.chdir(path)
        patch.setattr("boto3.Session", functools.cache(_session))
        for name, value in stack.environment.items():
            if name.startswith("AWS_"):
                patch.setenv(name, value)
        thread = threading.Thread(target=commands.serve_forever, args=(0.02,))
        thread.start()
        yield Folder(path, stack, commands.server_address[1])
        commands.shutdown()
        thread.join()


@pytest.fixture
def things(folder: Folder) -> None:
    """What pages speak of by name, as it was before another page changed it: a key, a team."""
    keys, about = folder.stack.table("KEYS_TABLE"), {"created_at": "2026-11-01T00:00:00.000Z", "name": "chat widget"}
    keys.put_item(Item={"key_hash": KEY_ID.ljust(64, "0"), "client_id": "web-shop", "enabled": True, **about})
    act = {"act": "disable", "guard": "loop", "at": int(time.time()), "until": int(time.time()) + 3600}
    held = {"client_id": "web-shop", "acts": {"01M83T4CM0RHJ0VJ2GG9DD5A6M": act}}
    keys.put_item(Item={"key_hash": f"{GUARD_PREFIX}{KEY_ID}", **held})
    keys.put_item(Item={"key_hash": f"{TEAM_PREFIX}web", "rpm": 300, "created_at": about["created_at"]})


@pytest.fixture(scope="module")
def requests(folder: Folder) -> None:
    """Requests of today in the ledger: of a client, of a user who signed in, and of the model that pages ask about."""
    ledger: Any = FakeCostsTable()
    book = parse_price_book("servers: {openai: {models: {gpt-5.4: {input: 1, output: 2}}}}")
    envelope = json.loads((ROOT / "events/samples/InferenceCompleted.chat-stream.json").read_text(encoding="utf-8"))
    entries: list[LedgerEntry] = []
    ada = user_id_of(f"http://127.0.0.1:{folder.stack.ports['ISSUER_PORT']}", "user-ada")
    asked = ((KEY_ID, "web-shop", "openai"), (KEY_ID, "web-shop", "openrouter"), (ada, "free", "demo"))
    for key_id, client_id, server in asked:
        now = time.time()
        envelope["detail"]["metadata"] |= {"id": new_ulid(now), "timestamp": rfc3339(now), "client_id": client_id}
        envelope["detail"]["data"]["client"] |= {"key_id": key_id}
        envelope["detail"]["data"]["response"]["model"] = "gpt-5.4"
        envelope["detail"]["data"]["server"]["name"] = server
        envelope["detail"]["data"]["usage"]["cost_reported"] = "0.002" if server == "openrouter" else None
        entries.append(entry_of(read_event(json.dumps(envelope)), book))
    assert CostsTable(ledger, "costs", pause=lambda _: None).record(entries) == {}
    ledger.put_into(folder.stack.aws("dynamodb"), folder.stack.environment["COSTS_TABLE"])


@pytest.mark.usefixtures("things", "requests")
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_does_what_the_page_says(page: Path, folder: Folder) -> None:
    commands = commands_of(page)
    missing = {tool for tool in TOOLS for each in commands if re.search(rf"\b{tool} ", each) and not shutil.which(tool)}
    if missing:
        pytest.skip(f"not installed on this machine: {', '.join(sorted(missing))}")
    if page.stem == "teams":
        folder.stack.table("KEYS_TABLE").delete_item(Key={"key_hash": f"{TEAM_PREFIX}web"})
    failed = folder.paste(commands)
    expected = {each: codes for each in failed for text, codes in NO_ZERO.items() if re.search(text, each)}
    assert {each: why for each, why in failed.items() if why[0] not in expected.get(each, ())} == {}


def test_what_is_not_run_is_named_for_a_reason_that_still_holds() -> None:
    every = [each for page in PAGES for block in _BLOCK.findall(page.read_text()) for each in complete(block)]
    unused = [pattern for pattern in NOT_HERE if not any(re.search(pattern, each, re.MULTILINE) for each in every)]
    assert unused == []
    assert len([each for each in every if not excuse(each)]) > 80
