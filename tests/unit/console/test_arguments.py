"""Which account, Region and stack a command is about, what it says of them before a change, and what it asks."""

import argparse
import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.arguments import Parser, confirm, environment_of
from console.aws import refused
from console.command_line import COMMANDS, main, parser
from console.errors import ConsoleError
from console.known import VARIABLE, Names
from console.stack import VARIABLES, chosen_name, stack_name
from tests.examples import examples

LOCAL = {
    "STACK_NAME": "openai-proxy",
    "COSTS_TABLE": "costs",
    "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
CHANGING = {
    *(("keys", name) for name in ("create", "update", "rotate", "revoke", "release")),
    *(("teams", name) for name in ("create", "update", "delete", "release")),
    *(("users", name) for name in ("block", "unblock")),
    *(("cache", name) for name in ("flush", "erase")),
    *(("costs", name) for name in ("reprice", "reconcile", "save-queries")),
    ("events", "replay"),
}
"""The commands that say first in which account they change something; of two of them, with one option."""
CANNOT_BE_UNDONE = {
    *(("cache", "flush"), ("cache", "erase"), ("teams", "delete"), ("teams", "release"), ("keys", "release")),
}


def resolved(words: str, environ: Mapping[str, str]) -> tuple[argparse.Namespace, Mapping[str, str]]:
    arguments = words.split()
    options = parser().parse_args(arguments)
    return options, environment_of(options, environ)


def leaves() -> dict[tuple[str, ...], Parser]:
    """Every command, by its words."""

    def below(words: tuple[str, ...], of: Parser) -> dict[tuple[str, ...], Parser]:
        inner = of.below()
        found = {words: of} if of.get_default("run") else {}
        for name, each in inner.items():
            found |= below((*words, name), each)
        return found

    return below((), parser())


@given(
    *(st.none() | st.sampled_from(["eu-west-1", "us-east-2"]) for _ in range(2)),
    *(st.none() | st.sampled_from(["prod", "test"]) for _ in range(2)),
)
@settings(max_examples=examples(20))
def test_an_option_beats_a_variable(
    region: str | None, region_of_shell: str | None, profile: str | None, profile_of_shell: str | None
):
    environ = {"AWS_REGION": region_of_shell, "AWS_PROFILE": profile_of_shell, "AWS_ACCESS_KEY_ID": "of the shell"}
    words = [f"--region {region}"] * (region is not None) + [f"--profile {profile}"] * (profile is not None)

    _, seen = resolved(" ".join(["keys list", *words]), {name: value for name, value in environ.items() if value})

    assert seen.get("AWS_REGION") == (region or region_of_shell)
    assert seen.get("AWS_PROFILE") == (profile or profile_of_shell)
    assert ("AWS_ACCESS_KEY_ID" in seen) == (profile is None)  # keys of the shell would beat a profile


@pytest.mark.parametrize("words", ["--region eu-west-1 keys list", "keys --region eu-west-1 list"])
def test_an_account_may_be_named_before_the_command_too(words: str):
    assert resolved(words, {})[1]["AWS_REGION"] == "eu-west-1"


def test_the_value_of_an_option_is_no_command():
    options, seen = resolved("--profile costs keys list", {})
    assert (seen["AWS_PROFILE"], options.parser.prog) == ("costs", "openai-proxy keys list")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("costs --stack-name nosuch", r"those of the stack 'openai-proxy' \(COSTS_TABLE\), and --stack-name names"),
        ("costs reprice --apply --stack-name prod", "those of the stack 'openai-proxy'"),
        ("--profile prod costs", "AWS_ENDPOINT_URL=http://127.0.0.1:4566 is an AWS on this machine"),
    ],
)
def test_what_contradicts_the_variables_of_a_shell_is_refused(words: str, message: str):
    with pytest.raises(ConsoleError, match=message):
        resolved(words, LOCAL)


def test_the_stack_of_the_shell_may_be_named():
    options, seen = resolved("costs --stack-name openai-proxy", LOCAL)
    assert chosen_name("CostsTable", options, seen) == "costs"


@pytest.mark.parametrize(("words", "name"), [("costs", "test"), ("costs --stack-name prod", "prod")])
def test_a_stack_is_that_of_the_option_else_of_the_shell(words: str, name: str):
    options, seen = resolved(words, {"STACK_NAME": "test"})
    assert stack_name(options, seen) == seen["STACK_NAME"] == name


def test_a_table_that_is_named_beats_its_variable():
    options, seen = resolved("costs --costs-table mine", LOCAL)
    assert chosen_name("CostsTable", options, seen) == "mine"


def test_every_command_takes_an_account_and_those_that_change_something_say_which():
    found = leaves()

    assert {words[0] for words in found} == set(COMMANDS)
    assert {words for words, each in found.items() if each.get_default("changes")} >= CHANGING
    for words, each in found.items():
        named = {option for action in each._actions for option in action.option_strings}
        assert {"--region", "--profile"} <= named, words
        if words in CANNOT_BE_UNDONE:
            assert "--yes" in named, words


def test_variables_stand_for_outputs_of_the_template():
    assert set(VARIABLES) >= {"KeysTable", "CostsTable", "LimitsTable", "CacheTable", "CacheBucket", "LakeStream"}
    assert len(set(VARIABLES.values())) == len(VARIABLES)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_a_change_that_cannot_be_undone_asks(answer: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch):
    said = Terminal()
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stderr", said)
    try:
        confirm("This deletes all.", argparse.Namespace(yes=False))
        went_on = True
    except ConsoleError:
        went_on = False

    assert went_on == goes_on
    assert said.getvalue() == "This deletes all. That cannot be undone. Do it? [y/N] "


def test_without_a_terminal_it_wants_yes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(ConsoleError, match="nothing was done\\. Remedy: add --yes"):
        confirm("This deletes all.", argparse.Namespace(yes=False))
    confirm("This deletes all.", argparse.Namespace(yes=True))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("kyes", "'kyes' is none of the choices; perhaps keys"),
        ("keys zzzz", "none of the choices; choose from create, list"),
        ("keys list --costs-tabel x", "there is no argument --costs-tabel x"),
        ("keys show", "the following arguments are required: KEY_ID"),
        ("keys revoke", "keys revoke: one of these is required: KEY_ID, --client-id"),
        ("costs entrys", "costs: argument COMMAND: 'entrys' is none of the choices; perhaps entries"),
        ("costs entries --before here", "argument --before: 'here' is no id of an entry. Remedy: "),
    ],
)
def test_a_wrong_argument_is_one_line_and_a_hint(words: str, says: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(words.split(), {})

    [line] = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert says in line
    assert line.endswith("--help` says what it takes.")


EVERYTHING = {
    **LOCAL,
    **dict.fromkeys(("KEYS_TABLE", "LIMITS_TABLE", "COSTS_TABLE", "CACHE_TABLE", "CACHE_BUCKET"), "x"),
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_MAX_ATTEMPTS": "1",
}
"""Where nothing answers: what has no effect is refused before anybody is asked."""
NEW_KEY = "keys create --client-id shop --name n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (f"{NEW_KEY} --reset-day 5", "--reset-day has no effect without --budget-month"),
        (f"{NEW_KEY} --reset-day 5 --budget-week 5", "--reset-day has no effect without --budget-month"),
        (f"{NEW_KEY} --reset-weekday friday --budget-day 5", "--reset-weekday has no effect without --budget-week"),
        (f"{NEW_KEY} --currency USD", "--currency is that of budgets, and there is none"),
        (f"{NEW_KEY} --cache-ttl 60", "--cache-ttl and --cache-pool need a cache that is on"),
        (f"{NEW_KEY} --cache off --cache-ttl 60", "--cache-ttl and --cache-pool have no effect with --cache off"),
        ("teams create t --reset-day 5", "--reset-day has no effect without --budget-month"),
        ("top --once --interval 5", "--interval is between looks, and --once looks once"),
        ("costs --source lake --by client", "--source says where single requests are read"),
        ("costs plot --source table", "--source says where single requests are read"),
        ("costs query --last 7d", "A period is for a query, and none is named"),
        ("cache stats --by scope --last 7d", "The period is that of the hits, which are counted by client, server"),
        ("servers check --live --stack", "--live and --stack exclude each other"),
        ("servers check --stack-name other", "--stack-name needs --stack"),
        ("events dead-letters --limit 5", "--limit is for the messages of one consumer"),
        ("prices show --tier priority", "--tier and --at need --server or --model"),
        ("prices refresh --installed --version 1", "--installed reads the version that is installed"),
        ("costs what-if --to gpt-5", "--to needs --from"),
    ],
)
def test_an_option_without_effect_is_refused(words: str, says: str, capsys: pytest.CaptureFixture[str]):
    environ = {name: value for name, value in EVERYTHING.items() if name != "STACK_NAME"}
    assert main(words.split(), environ) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"openai-proxy: {says}")
    assert ". Remedy: " in last


VALUES = {"--day": "2026-11-01", "--month": "2026-11", "--last": "3d", "--from": "2026-11-01", "--to": "2026-11-02"}
FLAGS = {"--csv", "--json"}
NEEDED = {"reconcile": ["--server", "x"], "report": ["x.html"]}


def before_and_after(option: str, name: str) -> tuple[list[str], list[str]]:
    given = [option] if option in FLAGS else [option, VALUES.get(option, "client")]
    needed = [] if option in NEEDED.get(name, ()) else NEEDED.get(name, [])
    return ["costs", *given, name, *needed], ["costs", name, *needed, *given]


OF_COSTS = sorted(
    option
    for action in parser().below()["costs"]._actions  # pyright: ignore[reportPrivateUsage]
    for option in action.option_strings
    if option not in ("-h", "--help", "--profile", "--region")
)


@pytest.mark.parametrize("name", sorted(parser().below()["costs"].below()))
def test_an_option_before_a_command_is_one_of_the_command_or_refused(name: str, capsys: pytest.CaptureFixture[str]):
    for option in OF_COSTS:
        before, after = before_and_after(option, name)
        try:
            taken = vars(parser().parse_args(before))
        except SystemExit:
            said = capsys.readouterr().err
            assert f"{option} before the command's name has no effect on it" in said or "is required" in said
        else:
            if (name, option) in {("what-if", "--from"), ("what-if", "--to")}:
                assert str(taken["first" if option == "--from" else "last"]) == VALUES[option]
            else:
                expected = vars(parser().parse_args(after))
                assert {k: v for k, v in taken.items() if k != "parser"} == {
                    k: v for k, v in expected.items() if k != "parser"
                }


def test_a_key_in_a_wrong_argument_is_not_repeated(capsys: pytest.CaptureFixture[str]):
    key = "opx-" + "a1B2" * 12
    with pytest.raises(SystemExit):
        main(["keys", key], {})
    assert "a1B2a1B2" not in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands_and_options(shell: str, capsys: pytest.CaptureFixture[str]):
    assert main(["completion", shell], {}) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("reprice", "--budget-day", "doctor", "--region"))


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["--version"], {})
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("openai-proxy ")


FILE = """
openai: {url: 'https://api.openai.com/v1', token: '${A}', model: gpt-5}
lab: {url: 'https://x.example', token: '', model: m1}
"""


@pytest.fixture
def names(tmp_path: Path) -> Names:
    file = tmp_path / "servers.yaml"
    file.write_text(FILE)
    return Names.at_hand({VARIABLE: str(file)})


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5*", "openai/gpt-5", "lab/m1", "m1"])
def test_a_model_that_a_server_has_is_taken(model: str, names: Names):
    names.check_models([model])
    names.check_servers(["openai", "lab"])


@pytest.mark.parametrize("model", ["gtp-5", "gtp-5*", "openai/m1", "lab/gpt-5", "typo"])
def test_a_model_that_nobody_has_is_refused(model: str, names: Names):
    with pytest.raises(ConsoleError, match=r"is not known\..* Remedy: .*--force"):
        names.check_models([model])


def test_a_server_that_the_file_does_not_list_is_refused_with_what_looks_like_it(names: Names):
    with pytest.raises(ConsoleError, match=r"Server 'opneai' is not known\. Did you mean openai\?"):
        names.check_servers(["opneai"])


def test_where_there_is_no_file_every_name_is_taken(tmp_path: Path):
    names = Names.at_hand({VARIABLE: str(tmp_path / "none.yaml")})
    names.check_servers(["anything"])
    names.check_models(["anything"])


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("AccessDeniedException", "AWS refuses Query: no (AccessDeniedException). Remedy: allow it to the role"),
        ("ExpiredTokenException", "Remedy: sign in again"),
        ("UnrecognizedClientException", "Remedy: see that --stack-name, --profile and --region"),
        ("InvalidSignatureException", "Remedy: correct your credentials and this machine's clock"),
        ("ProvisionedThroughputExceededException", "Remedy: try again in a minute"),
        ("ThrottlingException", "Remedy: try again in a minute"),
        ("ResourceNotFoundException", "in this account and Region (Query: no). Remedy: name the stack"),
        ("ValidationException", "(ValidationException). Remedy: see that"),
    ],
)
def test_a_refusal_of_aws_is_said_with_what_to_do(code: str, says: str) -> None:
    assert says in refused("Query", {"Code": code, "Message": "no."})


def test_a_refusal_without_a_reason_says_so() -> None:
    assert refused("Scan", {}).startswith("AWS refuses Scan: it does not say why (no code). Remedy: ")
