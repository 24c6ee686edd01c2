"""The commands as a person types them, against an emulated account (moto)."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs

import boto3
import pytest
from aws_lambda_powertools import Logger
from moto import mock_aws
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import load_price_book
from record_cost.consumer import RecordCost

from console.command_line import COMMANDS, Command, main
from console.errors import ConsoleError
from console.text import to_json, usd
from tests.command_line import Ran, Run, ran
from tests.tables import make_table

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
ROOT = Path(__file__).parents[3]
SERVERS = ROOT / "openai_servers.yaml"
DAY = "2026-11-23"
NOON = 1795435200
ENVIRON = {"KEYS_TABLE": "keys", "COSTS_TABLE": "costs"}


@contextmanager
def emulated() -> Generator[Any]:
    """An account with empty tables."""
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        for table, names in (("keys", ["key_hash"]), ("costs", ["pk", "sk"])):
            make_table(client, table, *names)
        yield client


@pytest.fixture
def client() -> Iterator[Any]:
    with emulated() as client:
        yield client


@pytest.fixture
def run(client: Any, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, environ: dict[str, str] = ENVIRON) -> Ran:
        return ran(capsys, arguments, environ)

    return run


class TestCosts:
    @pytest.fixture(scope="class")
    @classmethod
    def client(cls) -> Iterator[Any]:
        """The samples, recorded as the application records them; no test changes them."""
        with emulated() as client:
            ledger = CostsTable(client, "costs")
            record_cost = RecordCost(load_price_book(), ledger, Logger(service="test"), clock=lambda: NOON)
            events = [{"messageId": path.stem, "body": path.read_text()} for path in SAMPLES.glob("*.json")]
            record_cost({"Records": events})
            yield client

    def test_a_day_by_client(self, run: Run):
        rows = run("costs", "--day", DAY, "--by", "client", "--json").json

        assert [(row["client_id"], row["requests"], row["failed"]) for row in rows] == [
            ("web-shop", 11, 3),
            ("analytics", 2, 1),
            ("search-index", 1, 0),
            ("ci.nightly", 2, 1),
        ]
        assert rows[1]["cost"] == "0.028953"
        assert sum(Decimal(row["cost"]) for row in rows) == Decimal("0.08227426")

    @pytest.mark.parametrize("by", ["client", "server", "model", None])
    def test_every_view_adds_up_to_the_same(self, run: Run, by: str | None):
        view = ["--by", by] if by else []

        rows = run("costs", "--day", DAY, *view, "--json").json
        total = run("costs", "--day", DAY, *view).out.split("TOTAL")[1].splitlines()[0].split()

        assert sum(row["requests"] for row in rows) == int(total[0]) == 16
        assert sum(Decimal(row["cost"]) for row in rows if row["cost"] is not None) == Decimal("0.08227426")
        assert total[-1] == "0.082274"

    def test_the_text_is_a_table_that_says_what_it_leaves_out(self, run: Run):
        lines = run("costs", "--day", DAY, "--by", "server").out.splitlines()
        assert [line.split()[0] for line in lines[2:7]] == ["openai", "openrouter", "ollama", "replicate", "-"]
        assert len({len(line) for line in lines[:10] if not line.startswith("-")}) == 1
        assert lines[5].endswith("  unpriced")
        assert lines[11].startswith("Whose the failures are: client 1, server 3, proxy 1. ")
        assert lines[13] == "Requests without a price, whose cost is not in the total: 3."
        assert lines[14] == "Requests whose usage the server did not report: 2."
        assert lines[15] == "Requests whose reported usage cannot be: 1."

    def test_an_unknown_cost_is_null_and_not_0(self, run: Run):
        rows = run("costs", "--day", DAY, "--by", "server", "--json").json

        assert {row["server"]: row["cost"] for row in rows if row["unpriced"]} == {
            "openai": "0.08221576",
            "replicate": None,
        }

    def test_a_day_without_requests(self, run: Run):
        assert run("costs", "--day", "2020-01-01") == Ran(0, "No request on 2020-01-01 (UTC).\n", "")
        assert run("costs", "--day", "2020-01-01", "--json").json == []
        assert run("costs").code == run("costs", "--day", "yesterday").code == 0

    def test_the_entries_of_a_client_newest_first(self, run: Run):
        entries = run("costs", "entries", "--client", "web-shop", "--day", DAY, "--json").json
        listed = run("costs", "entries", "--client", "web-shop", "--day", DAY, "--limit", "2").out
        text = listed.split("\n\n")[0].splitlines()

        assert len(entries) == 11
        assert [entry["id"] for entry in entries] == sorted((entry["id"] for entry in entries), reverse=True)
        assert not any(entry.keys() & {"pk", "sk"} for entry in entries)
        assert entries[-1]["cost"] == "0.0003129"
        assert entries[-1]["time_to_first_chunk"] == 0.412356
        assert len(text) == 2 + 2
        assert "worker_killed" in text[3]

    @pytest.mark.parametrize("fault", ["client", "limit", "server", "proxy"])
    def test_failures_are_split_by_whose_they_are(self, run: Run, fault: str):
        total = run("costs", "--day", DAY, "--by", "total", "--json").json[0]
        of_fault = run("costs", "entries", "--day", DAY, "--failed", fault, "--json").json
        by_fault = {row["fault"]: row for row in run("costs", "--day", DAY, "--by", "fault", "--json").json}

        assert total[f"failed_{fault}"] == len(of_fault) == by_fault.get(fault, {"failed": 0})["failed"]
        assert all(entry["outcome"] == "failed" for entry in of_fault)
        shown = run("costs", "entries", "--day", DAY, "--failed", fault).out
        assert shown.count(f"({fault})") == len(of_fault)

    def test_an_entry_is_told_line_by_line(self, run: Run):
        view = ["costs", "entries", "--day", DAY, "--client", "web-shop", "--failed", "--limit", "1"]
        [entry] = run(*view, "--json").json
        title, *lines = run(*view, "--vertical").out.split("\n\n")[0].splitlines()

        told = dict(line.split(maxsplit=1) for line in lines if len(line.split()) > 1)
        assert title == "-- 1 --"
        assert (told["id"], told["fault"], told["error_type"]) == (entry["id"], "proxy", "worker_killed")
        assert told.keys() - {"fault"} <= entry.keys()

    def test_what_stands_before_entries_holds_for_them(self, run: Run):
        entries = run("costs", "--day", DAY, "--json", "--costs-table", "costs", "entries", "--client", "ci.nightly")

        assert len(entries.json) == 2

    def test_an_entry_without_price_shows_that_it_has_none(self, run: Run):
        text = run("costs", "entries", "--client", "web-shop", "--day", DAY).out

        listed, why = text.split("\n\n")
        assert [line.split()[-1] for line in listed.splitlines() if "replicate" in line] == ["unpriced"] * 2
        assert why.startswith("Unpriced: ")

    def test_entries_of_nobody(self, run: Run):
        code, out, said = run("costs", "entries", "--client", "nobody", "--day", DAY)
        assert (code, out) == (2, "")
        assert said.startswith("openai-proxy: Client 'nobody' is not known. Remedy: ")

    @pytest.mark.parametrize("form", ["--json", "--csv", None])
    @pytest.mark.parametrize("command", ["costs", "costs entries"])
    def test_a_client_of_a_key_without_requests(self, run: Run, client: Any, command: str, form: str | None):
        client.put_item(TableName="keys", Item={"key_hash": {"S": "a" * 64}, "client_id": {"S": "idle"}})
        code, out, said = run(*command.split(), "--client", "idle", "--day", DAY, *([form] if form else []))
        nothing = f"{'No entry' if 'entries' in command else 'No request'} on {DAY} (UTC) with client idle.\n"
        assert (code, nothing in out, nothing == said) == (0, form is None, form is not None)
        assert json.loads(out) == [] if form == "--json" else len(out.splitlines()) == 1

    def test_a_server_that_no_file_lists_and_no_request_had(self, run: Run):
        code, _, said = run("costs", "--server", "opnai", "--day", DAY)
        assert (code, "Server 'opnai' is not known. Did you mean openai?" in said) == (2, True)

    def test_where_the_keys_cannot_be_read_every_client_is_taken(self, run: Run):
        environ = ENVIRON | {"KEYS_TABLE": "absent"}
        said = run("costs", "--client", "nobody", "--day", DAY, environ=environ)
        assert said == (0, f"No request on {DAY} (UTC) with client nobody.\n", "")

    def test_the_entries_of_all_clients_as_csv_and_one_found_by_its_id(self, run: Run):
        everything = run("costs", "entries", "--day", DAY, "--limit", "100", "--json").json
        table = list(csv.DictReader(io.StringIO(run("costs", "entries", "--day", DAY, "--csv").out)))

        assert [each["id"] for each in everything] == sorted((each["id"] for each in everything), reverse=True)
        assert len({each["client_id"] for each in everything}) == 4
        assert [row["id"] for row in table] == [each["id"] for each in everything]
        assert {row["cost"] for row in table} == {each.get("cost", "") for each in everything}
        one = everything[3]
        for quoted in (one["id"], one["request_id"]):
            ran = run("find", quoted, "--day", DAY, "--json", environ=ENVIRON | {"CACHE_TABLE": "absent"})
            assert ran.code == 0, ran.err
            found = ran.json
            assert [each["id"] for each in found["entries"]] == [one["id"]]
            assert set(found["not_looked_at"]) == {"log", "cache"}  # neither is there
        lost = run("find", "nobody-has-this", "--day", DAY, environ=ENVIRON | {"CACHE_TABLE": "absent"})
        assert (lost.code, "No request 'nobody-has-this' is known" in lost.err) == (2, True)


class TestServers:
    def test_the_shipped_file_is_fit(self, run: Run):
        ran = run("servers", "check", str(SERVERS))

        assert ran.code == 0
        assert {"openai", "mistral", "ollama"} <= {line.split()[0] for line in ran.out.splitlines()[2:]}

    def test_a_faulty_file_is_refused_with_the_remedy(self, run: Run, tmp_path: Path):
        file = tmp_path / "servers.yaml"
        file.write_text("openai: {url: 'https://api.openai.com/v1', token: x}\n")

        ran = run("servers", "check", str(file))

        assert (ran.code, ran.out) == (2, "")
        assert str(file) in ran.err
        assert "Remedy: " in ran.err

    def test_a_token_in_the_file_is_warned_of_and_not_shown(self, run: Run, tmp_path: Path):
        file = tmp_path / "servers.yaml"
        file.write_text("openai: {url: 'https://api.openai.com/v1', token: sk-verysecret, model: ''}\n")

        ran = run("servers", "check", str(file))

        assert ran.code == 0
        assert "warning: " in ran.err
        assert "verysecret" not in ran.out + ran.err

    def test_a_pool_is_shown_with_its_members_and_without_a_token(self, run: Run, tmp_path: Path):
        file = tmp_path / "servers.yaml"
        file.write_text(
            "a: {url: 'https://a.example/v1', token: '${A}', model: m}\nfast: {pool: {a: 3}, model: small}\n"
        )

        ran = run("servers", "check", str(file))

        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines()[-1].split() == ["fast", "pool:", "a", "3", "-", "small"]


class FakeCloudFormation(BaseHTTPRequestHandler):
    """Answers DescribeStacks: there is one stack, `mine`, with one output."""

    NAMESPACE = 'xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"'
    STACK = f"""<DescribeStacksResponse {NAMESPACE}><DescribeStacksResult><Stacks><member>
        <StackName>mine</StackName><StackStatus>CREATE_COMPLETE</StackStatus><CreationTime>2026-11-23T09:30:00Z</CreationTime>
        <Outputs><member><OutputKey>KeysTable</OutputKey><OutputValue>keys-of-the-stack</OutputValue></member></Outputs>
        </member></Stacks></DescribeStacksResult></DescribeStacksResponse>"""
    NO_STACK = f"""<ErrorResponse {NAMESPACE}><Error><Type>Sender</Type><Code>ValidationError</Code>
        <Message>Stack with id does not exist</Message></Error></ErrorResponse>"""

    def do_POST(self) -> None:
        query = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        found = query["StackName"] == ["mine"]
        body = (self.STACK if found else self.NO_STACK).encode()
        self.send_response(200 if found else 400)
        self.send_header("content-type", "text/xml")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class TestTables:
    @pytest.fixture(autouse=True)
    def stack(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with ThreadingHTTPServer(("127.0.0.1", 0), FakeCloudFormation) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,)).start()
            monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", f"http://127.0.0.1:{server.server_port}")
            yield
            server.shutdown()

    def test_the_table_is_found_by_option_then_environment_then_stack(self, run: Run, client: Any):
        create = ["keys", "create", "--client-id", "a", "--name", "x", "--stack-name", "mine"]
        make_table(client, "keys-of-the-stack", "key_hash")

        assert run(*create, environ={}).code == 0
        assert client.scan(TableName="keys-of-the-stack")["Count"] == 1
        assert run(*create, "--keys-table", "keys-of-the-stack").code == 0
        assert client.scan(TableName="keys-of-the-stack")["Count"] == 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["keys", "list"], "There is no stack 'openai-proxy' in this account and Region."),
            (["costs", "--stack-name", "mine"], "The stack 'mine' has no output 'CostsTable'."),
            (
                ["keys", "list", "--keys-table", "absent"],
                "There is no such table or other resource in",
            ),
        ],
    )
    def test_a_table_that_is_not_there_is_named_with_the_remedy(self, run: Run, arguments: list[str], message: str):
        ran = run(*arguments, environ={})

        assert (ran.code, ran.out) == (2, "")
        assert message in ran.err


def test_without_a_region_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)

    assert main(["keys", "list"], {"KEYS_TABLE": "keys"}) == 2
    assert "set AWS_REGION" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_either_variable_sets_the_region(run: Run, monkeypatch: pytest.MonkeyPatch, variable: str):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, "us-east-1")

    assert (
        run("keys", "list", environ=ENVIRON | ({variable: "us-east-1"} if variable == "AWS_REGION" else {})).code == 0
    )


def test_when_nothing_listens_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    assert main(["keys", "list"], {"KEYS_TABLE": "keys"}) == 2
    assert "start the local stack (`make run`)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["keys"],
        ["keys", "create", "--name", "x"],
        ["keys", "create", "--client-id", "a", "--name", "x", "--expires-in-days", "0"],
        ["keys", "create", "--client-id", "a", "--name", "x", "--expires-in-days", "soon"],
        ["keys", "revoke"],
        ["keys", "revoke", "0123456789ab", "--client-id", "a"],
        ["costs", "--day", "23.11.2026"],
        ["costs", "--by", "colour"],
        ["costs", "--foo"],
        ["costs", "entries", "--bar"],
        ["keys", "lsit"],
        ["servers"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        main(arguments, {})

    assert exit_.value.code == 2
    [said] = capsys.readouterr().err.splitlines()
    words = [word for word in arguments[:2] if word.isalpha() and word not in ("colour", "lsit")]
    assert said.startswith("openai-proxy")
    assert f" Remedy: `{' '.join(['openai-proxy', *words])} --help`" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_that_says_what_it_does(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])

    assert exit_.value.code == 0
    assert f"usage: openai-proxy {command}" in capsys.readouterr().out


def test_the_help_loads_no_command_and_no_sdk():
    code = "import sys; from console.command_line import main; sys.argv[1:] = ['--help']; main()"
    show = f"import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {code}"

    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, cwd=ROOT)

    assert "usage: openai-proxy" in done.stdout
    loaded = set(done.stderr.split())
    assert not loaded & {"boto3", "botocore", "matplotlib", "rich", "jinja2", "yaml", "openai_proxy"}
    own = {"console", "console.command_line", "console.arguments", "console.errors"}
    assert {name for name in loaded if name.startswith("console")} == own


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., int]], int]:
    """Runs a function as a command of its own. Gives the exit code."""

    def command(run: Callable[..., int]) -> int:
        module = SimpleNamespace(add=lambda parser: parser.set_defaults(run=run))  # pyright: ignore[reportUnknownMemberType, reportUnknownLambdaType]
        monkeypatch.setitem(cast("dict[str, Any]", sys.modules), "made_for_a_test", module)
        monkeypatch.setitem(cast("dict[str, Command]", COMMANDS), "made", Command("", "made_for_a_test", "add"))
        return main(["made"], {})

    return command


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_json_is_json_in_every_encoding(
    encoding: str, command: Callable[[Callable[..., int]], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A pipe, and a terminal of another country, may have another one than UTF-8."""

    def run(*_: object) -> int:
        print(to_json([ODD]))
        return 0

    file = tmp_path / "printed"
    with file.open("w", encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert command(run) == 0
    assert json.loads(file.read_text(encoding=encoding)) == [ODD]


class TestEnds:
    """How a command ends that does not come to its end."""

    @pytest.fixture
    def end(self, command: Callable[[Callable[..., int]], int]) -> Callable[[BaseException], int]:
        def end(error: BaseException) -> int:
            def run(*_: object) -> int:
                raise error

            return command(run)

        return end

    def test_a_package_that_is_not_installed_is_named_with_the_remedy(
        self, end: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
    ):
        assert end(ModuleNotFoundError(name="matplotlib.figure")) == 2
        assert "matplotlib is not installed. Remedy: pip install '.[console]'" in capsys.readouterr().err

    @pytest.mark.parametrize("error", [ModuleNotFoundError(name="console.no_such"), ZeroDivisionError()], ids=repr)
    def test_a_bug_is_not_made_a_message(self, end: Callable[[BaseException], int], error: Exception):
        with pytest.raises(type(error)):
            end(error)

    def test_an_error_is_told_without_what_a_terminal_obeys(
        self, end: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
    ):
        """An error of Athena quotes the name of a model, which a client has written."""
        assert end(ConsoleError("Cannot cast 'x\x1b]0;t\x07\x9b2J\u202e' to integer.\nRemedy: none.")) == 2
        said = "openai-proxy: Cannot cast 'x�]0;t��2J�' to integer.\nRemedy: none.\n"
        assert capsys.readouterr().err == said

    def test_ctrl_c_is_an_end_without_a_traceback(
        self, end: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
    ):
        assert end(KeyboardInterrupt()) == 130
        assert capsys.readouterr() == ("", "")

    def test_a_name_that_the_terminal_cannot_write_is_no_error(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        file = tmp_path / "servers.yaml"
        file.write_text("lab: {url: 'https://lab.example/v1', token: '', model: 量子}\n", encoding="utf-8")
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))

        assert main(["servers", "check", str(file)], {}) == 0
        assert b"\\u91cf\\u5b50" in written.getvalue()

    def test_a_reader_that_goes_away_is_no_error(self):
        read, write = os.pipe()
        os.close(read)

        with os.fdopen(write, "w") as gone:
            done = subprocess.run(
                [sys.executable, "-m", "console", "servers", "check"],
                stdout=gone,
                stderr=subprocess.PIPE,
                check=False,
                cwd=ROOT,
            )

        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0.000000"), ("0.0000001", "<0.000001"), ("12.3456785", "12.345678"), ("1E+2", "100.000000")],
)
def test_money_is_shown_to_a_millionth(amount: str, text: str):
    assert usd(Decimal(amount)) == text


ODD = '\x1b[2J \x7f \x9b31m \u202e \u2028 \U000e0041 \ud800 é 漢 🙂 \\ "'
NO_NUMBERS = {"a": float("nan"), "b": [float("inf")], "cost": Decimal("-Infinity"), "c": Decimal("NaN")}


def test_json_has_nothing_that_a_terminal_obeys():
    text = to_json({ODD: [ODD]})
    assert json.loads(text) == {ODD: [ODD]}
    assert all(line.isprintable() for line in text.split("\n"))
    assert "é 漢 🙂" in text


def test_json_is_json_of_numbers_that_are_none():
    expected = {"a": "NaN", "b": ["Infinity"], "cost": "-Infinity", "c": "NaN"}
    assert json.loads(to_json(NO_NUMBERS), parse_constant=pytest.fail) == expected


def test_money_stays_exact_in_json():
    assert json.loads(to_json([{"cost": Decimal("1E-7"), "requests": Decimal(3), "duration": Decimal("0.5")}])) == [
        {"cost": "0.0000001", "requests": 3, "duration": 0.5}
    ]
