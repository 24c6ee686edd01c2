"""`servers check --live` and `--stack`: each server is asked with its sign-in, and what is wrong has its remedy."""

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from openai_proxy.client_keys import new_client_key
from openai_proxy.servers import parse_servers
from proxy.request.tags import header_tags

from console.command_line import main
from console.servers.commands import looks_table
from console.servers.live import Look, looks_at
from tests.fakes import Connection, Received, ScriptedServer

MODELS = b'{"object": "list", "data": [{"id": "a"}, {"id": "b"}]}'


def answer(connection: Connection, request: Received) -> None:
    """What a server of this path answers; the token is part of what it says."""
    name = request.target.split("/")[1]
    sent = request.headers
    match name:
        case "good" if sent.get("authorization") == "Bearer right":
            connection.answer(MODELS)
        case "header" if sent.get("api-key") == "right" and request.target == "/header/models?api-version=1":
            connection.answer(MODELS)
        case "signed" if "/eu-west-1/bedrock/aws4_request" in sent.get("authorization", ""):
            connection.answer(b"{}", "404 Not Found")
        case "deep":
            connection.answer(b"[" * 100_000)
        case "page":
            connection.answer(b"<html>", content_type="text/html")
        case "broken":
            connection.answer(b"{}", "503 Service Unavailable")
        case "odd":
            connection.answer(b'{"error": {"message": "teapot"}}', "418 Teapot")
        case "bare":
            connection.answer(b'[{"id": "a"}]')
        case _:
            connection.answer(b'{"error": {"message": "no"}}', "401 Unauthorized")


FILE = """
good: {url: 'URL/good', token: '${GOOD}', model: m}
wrong: {url: 'URL/good', token: '${WRONG}', model: m}
unset: {url: 'URL/good', token: '${UNSET}', model: m}
secret: {url: 'URL/good', token: 'secretsmanager:openai-proxy/s#key', model: m}
keyless: {url: 'URL/good', token: 'secretsmanager:openai-proxy/s#other', model: m}
missing: {url: 'URL/good', token: 'secretsmanager:openai-proxy/none', model: m}
parameter: {url: 'URL/good', token: 'ssm:/openai-proxy/p', model: m}
header: {url: 'URL/header', auth: {header: api-key}, query: {api-version: '1'}, token: right, model: m}
signed: {url: 'URL/signed', auth: {aws: bedrock, region: eu-west-1}, model: m}
page: {url: 'URL/page', token: right, model: m}
deep: {url: 'URL/deep', token: right, model: m}
broken: {url: 'URL/broken', token: right, model: m}
odd: {url: 'URL/odd', token: right, model: m}
bare: {url: 'URL/bare', token: right, model: m}
nobody: {url: 'http://127.0.0.1:9/v1', token: right, model: m}
"""
ENVIRON = {"GOOD": "right", "WRONG": "wrong", "AWS_REGION": "eu-central-1"}


@pytest.fixture(scope="module")
def url() -> Generator[str]:
    with ScriptedServer(answer) as server:
        yield server.url


@pytest.fixture
def aws() -> Generator[Any]:
    with mock_aws():
        session: Any = boto3.Session(region_name="eu-central-1")
        session.client("secretsmanager").create_secret(Name="openai-proxy/s", SecretString='{"key": "right"}')
        session.client("ssm").put_parameter(Name="/openai-proxy/p", Value="right", Type="SecureString")
        yield session


def test_each_server_is_asked_with_its_own_sign_in(url: str, aws: Any) -> None:
    servers = parse_servers(FILE.replace("URL", url))
    looks = {look.server: look for look in looks_at(servers.values(), ENVIRON, lambda: aws)}
    assert list(looks) == list(servers)
    found = {name: (look.reachable, look.signed_in, look.models) for name, look in looks.items()}
    assert found == {
        "good": (True, True, 2),
        "wrong": (True, False, None),
        "unset": (None, False, None),
        "secret": (True, True, 2),
        "keyless": (None, False, None),
        "missing": (None, False, None),
        "parameter": (True, True, 2),
        "header": (True, True, 2),
        "signed": (True, None, None),
        "page": (True, None, None),
        "deep": (True, None, None),
        "broken": (False, None, None),
        "odd": (True, None, None),
        "bare": (True, True, 1),
        "nobody": (False, None, None),
    }
    assert {name for name, look in looks.items() if not look.remedy} == {
        name for name, (_, signed_in, _) in found.items() if signed_in
    }
    assert "UNSET" in looks["unset"].remedy
    assert "key other" in looks["keyless"].remedy
    assert "teapot" in looks["odd"].remedy
    assert {name for name, look in looks.items() if look.seconds is None} == {"unset", "keyless", "missing", "nobody"}


def test_a_client_key_of_the_proxy_is_not_sent_to_another_server() -> None:
    seen: list[str] = []

    def script(connection: Connection, request: Received) -> None:
        seen.append(request.headers["authorization"])
        connection.answer(b'{"data": []}')

    with ScriptedServer(script) as server:
        text = f"""
        openai: {{url: {server.url}, token: "${{OPENAI_API_KEY}}", model: m}}
        other: {{url: {server.url}, token: "${{PROXY_API_KEY}}", model: m}}
        """
        key, another = new_client_key(), new_client_key()
        environ = {"OPENAI_API_KEY": key, "PROXY_API_KEY": another}  # a server may be another proxy
        [openai, _] = looks_at(parse_servers(text).values(), environ, lambda: None)
        assert (openai.reachable, openai.signed_in) == (None, False)
        assert key not in openai.remedy
        assert seen == [f"Bearer {another}"]


def write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "servers.yaml"
    file.write_text(text)
    return str(file)


def test_the_table_says_what_is_wrong_and_the_exit_code_too(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, FILE.replace("URL", url))
    assert main(["servers", "check", file, "--live", "--server", "good", "--server", "wrong"], ENVIRON) == 1
    told = capsys.readouterr().out
    head, _, good, wrong = told.splitlines()
    assert head.split() == ["SERVER", "REACHED", "SIGNED", "IN", "MODELS", "TOOK", "REMEDY"]
    assert good.split()[:4] == ["good", "yes", "yes", "2"]
    assert wrong.split()[:4] == ["wrong", "yes", "no", "-"]
    assert "give it a token" in wrong
    assert main(["servers", "check", file, "--live", "--server", "good", "--json"], ENVIRON) == 0
    [look] = json.loads(capsys.readouterr().out)
    assert (look["server"], look["reachable"], look["signed_in"], look["models"]) == ("good", True, True, 2)
    assert main(["servers", "check", file, "--live", "--server", "other"], ENVIRON) == 2
    assert "no server 'other'" in capsys.readouterr().err


BY_CODE = {
    "up": (200, MODELS, (True, True, 2)),
    "none": (404, b'{"error": {"message": "no such path", "code": null}}', (True, None, None)),
    **{
        name: (status, json.dumps({"error": {"message": "m", "code": code}}).encode(), found)
        for name, status, code, found in [
            ("unset", 503, "server_not_configured", (None, False, None)),
            ("refused", 502, "upstream_authentication_failed", (True, False, None)),
            ("gone", 502, "upstream_unreachable", (False, None, None)),
            ("out", 503, "upstream_unavailable", (False, None, None)),
            ("closed", 403, "server_not_allowed", (None, None, None)),
            ("new", 404, "unknown_server", (None, None, None)),
            ("page", 502, "upstream_no_answer", (True, None, None)),
            ("odd", 500, "internal_error", (False, None, None)),
        ]
    },
}


def test_the_deployed_proxy_is_asked_with_a_client_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = new_client_key()

    def proxy(connection: Connection, request: Received) -> None:
        if request.headers.get("authorization") != f"Bearer {key}":
            connection.answer(b'{"error": {"code": "invalid_api_key"}}', "401 Unauthorized")
            return
        _, name, *path = request.target.split("/")
        assert path == ["v1", "models"]
        assert header_tags(request.headers["x-tags"]) == {"command": "servers-check"}  # so the ledger tells it apart
        status, body, _ = BY_CODE[name]
        connection.answer(body, f"{status} X")

    file = write(tmp_path, "".join(f"{name}: {{url: 'https://x/v1', token: t, model: ''}}\n" for name in BY_CODE))
    with ScriptedServer(proxy) as server:
        environ = {"FUNCTION_URL": server.url + "/", "OPENAI_API_KEY": key}
        assert main(["servers", "check", file, "--stack", "--json"], environ) == 1
        looks = json.loads(capsys.readouterr().out)
        assert main(["servers", "check", file, "--stack", "--server", "up"], environ) == 0
        assert key not in capsys.readouterr().out
        assert main(["servers", "check", file, "--stack"], environ | {"OPENAI_API_KEY": new_client_key()}) == 2
        assert "refuses the client key" in capsys.readouterr().err
    assert {each["server"]: (each["reachable"], each["signed_in"], each["models"]) for each in looks} == {
        name: found for name, (_, _, found) in BY_CODE.items()
    }
    assert all(each["remedy"] for each in looks if each["server"] != "up")
    assert main(["servers", "check", file, "--stack"], environ | {"OPENAI_API_KEY": "sk-other"}) == 2
    assert "set OPENAI_API_KEY" in capsys.readouterr().err


def test_what_nobody_could_see_is_a_question_mark() -> None:
    lines = looks_table([Look("a"), Look("b", True, True, 3, 0.0123)]).splitlines()
    obeyed = looks_table([Look("c", remedy="read what it says to this: 418 \x1b[2J\r\n\x9b\u202e")])
    assert all(line.isprintable() for line in obeyed.splitlines())
    assert len(obeyed.splitlines()) == 3
    assert [line.split() for line in lines[2:]] == [
        ["a", "?", "?", "-", "-", "-"],
        ["b", "yes", "yes", "3", "12", "ms", "-"],
    ]


def test_httpx_is_loaded_only_to_ask(tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    file = write(tmp_path, "a: {url: 'https://x/v1', token: t, model: ''}\n")
    program = f"import sys; from console.command_line import main; main(['servers', 'check', {file!r}], {{}}); "
    program += "assert not {'httpx', 'boto3', 'botocore'} & set(sys.modules)"
    paths = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": paths}, capture_output=True)


def test_of_a_pool_each_member_is_asked_once(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "servers.yaml"
    file.write_text(FILE.replace("URL", url) + "fast: {pool: {bare: 3, good: 1}}\n")
    assert (
        main(["servers", "check", str(file), "--live", "--json", "--server", "fast", "--server", "good"], ENVIRON) == 0
    )
    assert [(look["server"], look["models"]) for look in json.loads(capsys.readouterr().out)] == [
        ("good", 2),
        ("bare", 1),
    ]
    assert main(["servers", "check", str(file), "--json", "--server", "fast"], ENVIRON) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"server": "fast", "url": None, "model": None, "pool": {"bare": 3, "good": 1}}
    ]
