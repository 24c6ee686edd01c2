import subprocess
from pathlib import Path

import pytest
from openai_proxy.client_keys import new_client_key
from openai_proxy.servers import ServersFileError, parse_servers

from local.stack.env_file import (
    aws_command,
    environment_file,
    greeting,
    provider_tokens,
    rest_api_url,
    servers_file,
    usable_servers,
)
from local.stack.settings import ROOT, Settings, parse

SHIPPED = """
openai: {url: https://api.openai.com/v1, token: "${OPENAI_API_KEY}", model: gpt}
mistral: {url: https://api.mistral.ai/v1, token: "${MISTRAL_API_KEY}", model: small}
ollama: {url: http://127.0.0.1:11434/v1, token: ollama, model: llama}
"""
OUTPUTS = {
    "RestApiUrl": "https://abc.execute-api.us-east-1.amazonaws.com/dev/",
    "BusName": "bus",
    "KeysTable": "it's keys",
    "LimitsTable": "limits",
    "CostsTable": "costs",
    "CacheTable": "cache",
    "CacheBucket": "cached",
    "StreamsTable": "streams",
}


def settings(folder: Path, *arguments: str) -> Settings:
    return parse(["run", "--folder", str(folder), *arguments], {"PORT": "8081", "MINISTACK_PORT": "4567"})


@pytest.mark.parametrize(
    ("parameter", "variable", "usual"),
    [
        ("IdentityFile", "IDENTITY_FILE", "identity.yaml"),
        ("GuardsFile", "GUARDS_FILE", "guards.yaml"),
        ("ServersFile", "DEPLOYED_SERVERS_FILE", "openai_servers.yaml"),
    ],
)
def test_commands_read_the_files_that_the_stack_was_started_with(
    parameter: str, variable: str, usual: str, tmp_path: Path
):
    for chosen, named in ((), usual), (("--parameters", f"{parameter}=/owner/file.yaml"), "/owner/file.yaml"):
        text = environment_file(settings(tmp_path, *chosen), OUTPUTS, new_client_key())
        [line] = [line for line in text.splitlines() if line.startswith(f"export {variable}=")]
        assert line.endswith(named)


def test_demo_server_is_added_to_the_shipped_servers():
    servers = parse_servers(servers_file(SHIPPED, "http://127.0.0.1:8090/v1", "demo-token"))
    assert list(servers) == ["openai", "mistral", "ollama", "demo"]
    assert (servers["demo"].url, servers["demo"].token.name, servers["demo"].model) == (
        "http://127.0.0.1:8090/v1",
        "demo-token",
        "demo",
    )


def test_demo_server_is_added_to_the_servers_of_this_repository():
    shipped = (ROOT / "openai_servers.yaml").read_text()
    assert parse_servers(servers_file(shipped, "http://127.0.0.1:8090/v1", "t")).keys() >= {"openai", "demo"}


def test_own_demo_server_is_left_alone():
    own = "demo: {url: https://demo.example.com/v1, token: t, model: m}\n"
    assert servers_file(own, "http://127.0.0.1:8090/v1", "demo-token") == own


def test_broken_servers_file_is_refused():
    with pytest.raises(ServersFileError, match="Remedy"):
        servers_file("openai: {url: x}", "http://127.0.0.1:8090/v1", "t")


def test_provider_tokens_come_from_the_environment():
    environ = {"OPENAI_API_KEY": "sk-1", "MISTRAL_API_KEY": "", "OTHER": "x"}
    tokens = provider_tokens(SHIPPED, environ)
    assert tokens == {"OPENAI_API_KEY": "sk-1"}
    assert usable_servers(SHIPPED, tokens) == ["openai"]


def test_client_key_is_never_taken_for_a_provider_token():
    assert provider_tokens(SHIPPED, {"OPENAI_API_KEY": new_client_key()}) == {}


def test_environment_file_can_be_sourced(tmp_path: Path):
    file = tmp_path / "env"
    file.write_text(environment_file(settings(tmp_path), OUTPUTS, "opx-key"))
    script = (
        f'. {file}; echo "$OPENAI_BASE_URL $OPENAI_API_KEY $AWS_ENDPOINT_URL $KEYS_TABLE $REST_API_URL $AWS_PROFILE"'
    )
    said = subprocess.run(
        ["sh", "-eu", "-c", script.replace("$AWS_PROFILE", "${AWS_PROFILE-none}")],
        check=True,
        capture_output=True,
        text=True,
        env={"AWS_PROFILE": "real"},
    ).stdout
    rest = "http://127.0.0.1:4567/_aws/execute-api/abc/dev/"
    assert said == f"http://127.0.0.1:8081/demo/v1 opx-key http://127.0.0.1:4567 it's keys {rest} none\n"


def test_rest_api_address_is_that_of_ministack():
    url = rest_api_url("https://abc.execute-api.us-east-1.amazonaws.com/dev/", "http://127.0.0.1:4566")
    assert url == "http://127.0.0.1:4566/_aws/execute-api/abc/dev/"


def test_greeting_says_what_to_paste(tmp_path: Path):
    text = greeting(settings(tmp_path), OUTPUTS, "opx-key", ["openai"])
    assert "http://127.0.0.1:8081/demo/v1" in text
    assert "opx-key" in text
    assert "curl -N http://127.0.0.1:8081/demo/v1/chat/completions" in text
    assert "costs" in text
    assert "openai" in text
    assert "KEEP_STATE=1" in text
    assert "is kept" in greeting(settings(tmp_path, "--keep-state"), OUTPUTS, "opx-key", [])


def test_closed_rest_door_is_no_address(tmp_path: Path):
    outputs = {name: value for name, value in OUTPUTS.items() if name != "RestApiUrl"}
    assert "REST_API_URL" not in environment_file(settings(tmp_path), outputs, "opx-key")
    assert "switched off" in greeting(settings(tmp_path), outputs, "opx-key", [])


def test_how_to_get_a_token_is_told_where_people_can_sign_in(tmp_path: Path):
    told = greeting(settings(tmp_path), OUTPUTS, "opx-x", [])
    assert "or sign in as Ada or Grace." in told
    assert "curl -s http://127.0.0.1:8091/token -d grant_type=password -d client_id=playground -d username=ada" in told
    assert "grant_type" not in greeting(settings(tmp_path, "--no-issuer"), OUTPUTS, "opx-x", [])


def test_the_aws_command_of_the_stack_cannot_reach_anything_else(tmp_path: Path):
    chosen, real = settings(tmp_path), tmp_path / "usr"
    for folder, text in (
        (chosen.tools, aws_command(chosen)),
        (real, '#!/bin/sh\necho "$HTTPS_PROXY $NO_PROXY $*"\n'),
    ):
        folder.mkdir()
        (folder / "aws").write_text(text)
        (folder / "aws").chmod(0o755)
    (tmp_path / "env").write_text(environment_file(chosen, OUTPUTS, "opx-key"))
    script = f". {tmp_path}/env; . {tmp_path}/env; unset AWS_ENDPOINT_URL; aws sqs list-queues; echo $PATH"

    environment = {"PATH": f"{real}:/usr/bin:/bin"}
    ran = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True)
    called, path = ran.stdout.splitlines()

    assert called == "http://127.0.0.1:9 127.0.0.1,localhost --endpoint-url http://127.0.0.1:4567 sqs list-queues"
    assert path == f"{chosen.tools}:{ROOT}/.venv/bin:{real}:/usr/bin:/bin"  # once, however often it is sourced
