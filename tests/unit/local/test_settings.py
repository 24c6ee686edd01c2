import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.ports import free_port
from local.stack import build
from local.stack.ports import PortTakenError, listener, require_free, wait_for_answer
from local.stack.settings import ROOT, parse


def test_defaults():
    settings = parse(["run"], {})
    assert (settings.port, settings.ministack_port, settings.demo_port) == (8080, 4566, 8090)
    assert settings.folder == ROOT / ".local"
    assert settings.build == ROOT / ".local/build"
    assert settings.ministack == ROOT / ".venv-ministack/bin/ministack"
    assert settings.listed_servers == ROOT / "openai_servers.yaml"
    assert not settings.keep_state


def test_environment_sets_what_the_command_line_leaves_open(tmp_path: Path):
    environ = {"PORT": "8081", "MINISTACK_PORT": "4567", "DEMO_PORT": "8091", "KEEP_STATE": "1", "MINISTACK": "/opt/ms"}
    settings = parse(["run", "--port", "9000", "--folder", str(tmp_path)], environ)
    assert (settings.port, settings.ministack_port, settings.demo_port) == (9000, 4567, 8091)
    assert settings.keep_state
    assert settings.ministack == Path("/opt/ms")
    assert settings.endpoint == "http://127.0.0.1:4567"
    assert settings.parameters["ServersFile"] == str(tmp_path / "openai_servers.yaml")


def test_the_operations_page_leaves_out_what_the_embedded_aws_cannot_do():
    page = (ROOT / "docs/operations.md").read_text().partition("## Into an emulator")[2]
    local = parse(["run"], {}).parameters
    lacking = ("Streaming", "NamedQueriesEnabled", "AlarmFormulasEnabled", "EventArchiveDays")
    command = page[page.index("make deploy ") :].partition("```")[0]
    assert {f"{name}={local[name]}" for name in lacking} <= set(command.replace('"', " ").split())


@pytest.mark.parametrize("value", ["", "0"])
def test_state_is_not_kept_unless_asked_for(value: str):
    assert not parse(["run"], {"KEEP_STATE": value}).keep_state


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("AUTHORIZATION=no", "AUTHORIZATION=no is neither on nor off. Remedy: "),
        ("ISSUER=0", "ISSUER=0 is neither on nor off"),
        ("KEEP_STATE=yes", "KEEP_STATE=yes is neither 1 nor 0"),
        ("PARAMETERS=AlarmsEnable=false", "the template has no parameter AlarmsEnable; perhaps AlarmsEnabled"),
        ("PARAMETERS=Zzz=1", "the template has no parameter Zzz. Remedy: "),
    ],
)
def test_a_setting_that_is_not_understood_is_refused(variable: str, says: str, capsys: pytest.CaptureFixture[str]):
    name, _, value = variable.partition("=")
    with pytest.raises(SystemExit):
        parse(["run"], {name: value})
    assert says in capsys.readouterr().err


def test_switches_are_off_and_on():
    assert parse(["run"], {"AUTHORIZATION": "on", "ISSUER": "on", "KEEP_STATE": "1"}).issuer_port
    off = parse(["run"], {"AUTHORIZATION": "off", "ISSUER": "off", "KEEP_STATE": "0"})
    assert (off.authorization, off.issuer_port, off.keep_state) == (False, None, False)


@pytest.mark.parametrize("value", ["x", "0", "65536", "-1"])
def test_port_that_is_none_is_refused(value: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse(["run"], {"PORT": value})
    assert f"PORT={value} is not a port" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_servers_of_another_file(way: str, tmp_path: Path):
    file = tmp_path / "servers.yaml"
    file.touch()
    arguments, environ = (["--servers-file", str(file)], {}) if way == "argument" else ([], {"SERVERS_FILE": str(file)})
    assert parse(["run", *arguments], environ).listed_servers == file


def test_servers_file_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse(["run", "--servers-file", str(tmp_path / "none.yaml")], {})
    assert "there is no servers file" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "concurrency"), [("", None), ("1", 1), ("64", 64), ("1600", 1600)])
def test_requests_at_a_time_of_one_environment(value: str, concurrency: int | None):
    assert parse(["run"], {"CONCURRENCY": value}).concurrency == concurrency
    assert parse(["run", "--concurrency", value], {"CONCURRENCY": "7"}).concurrency == concurrency


@pytest.mark.parametrize("value", ["0", "-1", "1601", "many", "1.5"])
def test_a_number_that_lambda_does_not_take_is_refused(value: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse(["run"], {"CONCURRENCY": value})
    assert "1600" in capsys.readouterr().err


def test_parameters_of_the_template_are_chosen():
    chosen = parse(["run"], {"PARAMETERS": "LimitsFailurePolicy=closed BatchWindowSeconds=0"}).parameters
    assert (chosen["LimitsFailurePolicy"], chosen["BatchWindowSeconds"]) == ("closed", "0")


def test_parameters_that_are_no_pairs_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse(["run"], {"PARAMETERS": "LimitsFailurePolicy"})
    assert "write NAME=VALUE, not 'LimitsFailurePolicy'" in capsys.readouterr().err


def test_a_file_of_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "faults.yaml"
    with pytest.raises(SystemExit):
        parse(["run"], {"FAULTS": str(file)})
    assert "there is no faults file" in capsys.readouterr().err
    file.touch()
    assert parse(["run"], {"FAULTS": str(file)}).faults == file
    assert parse(["run"], {"FAULTS": ""}).faults is None


def test_taken_port_is_named_with_the_remedy():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"Port {port} is in use\..*make run PORT=\d+$"):
            require_free({"PORT": port})


def test_port_that_is_wanted_twice_is_refused():
    with pytest.raises(PortTakenError, match="Port 1 is wanted twice"):
        require_free({"PORT": 1, "DEMO_PORT": 1})


def test_a_port_is_kept_for_the_server_that_inherits_its_listener():
    port = free_port()
    with listener("DEMO_PORT", port):
        with pytest.raises(PortTakenError, match=rf"Port {port} is in use.*make run DEMO_PORT=\d+"):
            listener("DEMO_PORT", port)
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
    listener("DEMO_PORT", port).close()


def test_who_listens_without_an_answer_is_waited_for_and_not_for_ever():
    answer = b"HTTP/1.0 404 Not Found\r\n\r\n"

    async def waited(say: bytes, seconds: float) -> bool:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(say)
            writer.close()

        with listener("DEMO_PORT", free_port()) as kept:
            async with await asyncio.start_server(serve, sock=kept):
                return await wait_for_answer(kept.getsockname()[1], seconds)

    async def silent() -> bool:
        with listener("DEMO_PORT", free_port()) as kept:
            return await wait_for_answer(kept.getsockname()[1], 0.2)

    assert asyncio.run(waited(answer, 60))
    assert not asyncio.run(waited(b"", 0.2))
    assert not asyncio.run(silent())
    assert not asyncio.run(wait_for_answer(free_port(), 0.2))


def test_free_ports_are_fine():
    require_free({"PORT": free_port()})


def test_build_is_current_only_for_what_was_built(tmp_path: Path):
    settings = parse(["run", "--folder", str(tmp_path)], {})
    assert not build.is_current(settings)
    settings.build.mkdir()
    (settings.build / ".digest").write_text(build.digest(settings))
    assert build.is_current(settings)
    (settings.build / ".digest").write_text("another")
    assert not build.is_current(settings)


def test_sandboxes_run_on_the_same_python_outside_of_this_environment():
    code = "import sys; print(sys.prefix == sys.base_prefix, sys.version)"
    command = [str(build.python_of_sandboxes()), "-I", "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"True {sys.version}\n"


def test_tools_see_nothing_of_a_real_account(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "real")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = build.tool_environment(parse(["run"], {}))
    assert not [name for name in environment if name.startswith(("AWS_", "PYTHON"))]
    assert environment["PATH"].startswith(str(Path(sys.executable).parent))


def test_people_sign_in_where_nobody_says_otherwise():
    settings = parse(["run"], {})
    assert (settings.issuer, settings.ports["ISSUER_PORT"]) == ("http://127.0.0.1:8091", 8091)
    assert settings.parameters["IdentityFile"] == str(settings.identity_file)
    assert parse(["run"], {"ISSUER_PORT": "9"}).issuer == "http://127.0.0.1:9"
    for arguments, environ in ((["--no-issuer"], {}), ([], {"ISSUER": "off"}), (["--no-authorization"], {})):
        off = parse(["run", *arguments], environ)
        assert (off.issuer, "ISSUER_PORT" in off.ports) == (None, False)


def test_guards_are_on_where_a_file_beside_the_servers_has_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers, guards = tmp_path / "servers.yaml", tmp_path / "guards.yaml"
    servers.write_text("")
    chosen = ["run", "--servers-file", str(servers)]
    assert "GuardsFile" not in parse(chosen, {}).parameters
    guards.write_text("# nothing")
    assert "GuardsFile" not in parse(chosen, {}).parameters
    guards.write_text("guards: {a: {rule: repeat, times: 5, act: notify, for: 1h}}")
    assert parse(chosen, {}).parameters["GuardsFile"] == str(guards)
    guards.write_text("guards: {a: {rule: repeat}}")
    with pytest.raises(SystemExit):
        parse(chosen, {})
    assert f"{guards}: guard 'a', key 'times'" in capsys.readouterr().err
