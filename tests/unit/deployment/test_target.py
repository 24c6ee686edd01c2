"""What is built for: the parameters that are given, else those of the stack, else the template's."""

import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.arguments import environment_of
from console.command_line import parser
from deployment.__main__ import said, saving, target_for
from deployment.account import Caller
from deployment.build import ROOT
from deployment.bytecode import NoPythonError, python_of
from deployment.target import (
    Target,
    defaults_of,
    overrides_in,
    overrides_of_samconfig,
    target_of,
    this_machine,
    values_of,
    without_overrides,
)

NAMES = st.from_regex(r"[A-Z][A-Za-z]{1,12}", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9/:.,*@-]{1,20}", fullmatch=True)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_parameters_are_found_however_they_are_written(
    parameters: dict[str, str], in_one_word: bool, in_long_form: bool
) -> None:
    form = "ParameterKey={},ParameterValue={}" if in_long_form else "{}={}"
    words = [form.format(name, value) for name, value in parameters.items()]
    given_words = [" ".join(words)] if in_one_word else words
    arguments = ["--region", "eu-west-1", "--parameter-overrides", *given_words, "--no-execute-changeset"]

    assert values_of(overrides_in(arguments) or []) == parameters
    assert without_overrides(arguments) == ["--region", "eu-west-1", "--no-execute-changeset"]


def test_a_value_with_spaces_keeps_its_quotation_marks() -> None:
    words = overrides_in(shlex.split("""--parameter-overrides 'Stage=prod CorsAllowOrigins="https://a, https://b"'"""))

    assert words == ["Stage=prod", 'CorsAllowOrigins="https://a, https://b"']
    assert values_of(words or []) == {"Stage": "prod", "CorsAllowOrigins": "https://a, https://b"}


def test_without_the_option_nothing_is_given() -> None:
    assert overrides_in(["--region", "eu-west-1"]) is None
    assert overrides_in(["--parameter-overrides=Stage=prod"]) == ["Stage=prod"]


@pytest.mark.parametrize("value", ['"Stage=prod Architecture=x86_64"', '["Stage=prod", "Architecture=x86_64"]'])
@pytest.mark.parametrize("command", ["deploy", "global"])
def test_samconfig_may_hold_them_in_two_forms(value: str, command: str) -> None:
    text = f"version = 0.1\n[default.{command}.parameters]\nparameter_overrides = {value}\n"

    assert values_of(overrides_of_samconfig(text)) == {"Stage": "prod", "Architecture": "x86_64"}
    assert overrides_of_samconfig(text, "prod") == overrides_of_samconfig("version = 0.1\n") == []


def test_what_is_deployed_before_is_built_again_unless_a_parameter_says_otherwise() -> None:
    deployed = {"PythonVersion": "python3.12", "Architecture": "x86_64", "Stage": "prod"}

    assert target_for([], deployed) == Target("3.12", "x86_64")
    assert target_for(["--parameter-overrides", "Architecture=arm64"], deployed) == Target("3.12", "arm64")
    assert target_for(["--parameter-overrides", "Stage=dev"], {}) == Target("3.13", "arm64")


def test_an_environment_of_samconfig_has_parameters_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('version = 0.1\n[test.deploy.parameters]\nparameter_overrides = "Architecture=x86_64"\n')

    assert target_for([f"--config-file={file}", "--config-env", "test"], {}) == Target("3.13", "x86_64")
    assert target_for([f"--config-file={file}"], {}) == Target("3.13", "arm64")


def test_the_template_says_what_is_built_by_default() -> None:
    assert target_of(defaults_of((ROOT / "template.yaml").read_text())) == Target("3.13", "arm64")


@pytest.mark.parametrize("parameters", [{"PythonVersion": "nodejs22.x"}, {"Architecture": "riscv"}])
def test_what_lambda_has_not_is_refused_with_the_remedy(parameters: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="Remedy"):
        target_of({"PythonVersion": "python3.13", "Architecture": "arm64", **parameters})


def test_amazon_linux_2_takes_no_newer_wheels() -> None:
    assert Target("3.11", "x86_64").platforms == ("manylinux2014_x86_64",)
    assert Target("3.12", "arm64").platforms[0] == "manylinux_2_28_aarch64"


def test_this_machine_is_one_of_lambdas() -> None:
    assert {this_machine(name).architecture for name in ("aarch64", "arm64")} == {"arm64"}
    assert this_machine("x86_64").python == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_what_is_deployed_is_said_in_one_line() -> None:
    who = Caller("111111111111", "eu-west-1", "arn:aws:iam::111111111111:user/ada", None)

    line = said("shop", Target("3.13", "arm64"), who)

    assert "\n" not in line
    assert all(word in line for word in ("shop", "3.13", "arm64", "eu-west-1", "111111111111"))


def test_a_python_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pyenv's shims of versions that are not chosen."""
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoPythonError, match=r"uv python install 3\.99"):
        python_of("3.99")
    kept = tmp_path / "versions" / "3.99.1" / "bin"
    kept.mkdir(parents=True)
    (kept / "python3.99").write_text("#!/bin/sh\necho 3.99\n")
    (kept / "python3.99").chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert python_of("3.99") == str(kept / "python3.99")


@pytest.mark.parametrize(("chosen", "says"), [(sys.executable, "is Python 3"), ("/no/such/python", "does not run")])
def test_a_chosen_python_of_another_version_is_refused(chosen: str, says: str) -> None:
    with pytest.raises(NoPythonError, match=says):
        python_of("3.99", chosen)


def test_this_python_is_taken_where_it_fits() -> None:
    assert python_of(f"{sys.version_info.major}.{sys.version_info.minor}") == sys.executable


def test_a_deployment_ends_with_the_lakes_queries_in_the_same_place() -> None:
    command, environ = saving("shop", ["--profile", "ada", "--region=eu-west-1"], "eu-west-1")
    assert environ == {"AWS_REGION": "eu-west-1"}
    assert Path(command[0]).name == "openai-proxy"
    options = parser().parse_args(command[1:])
    assert (options.run.__name__, options.stack_name) == ("run_save_queries", "shop")
    keys = {"AWS_ACCESS_KEY_ID": "of another account", "AWS_SECRET_ACCESS_KEY": "x"}
    assert environment_of(options, {**keys, **environ}) == {**environ, "STACK_NAME": "shop", "AWS_PROFILE": "ada"}
    without = parser().parse_args(saving("shop", [], "us-east-1")[0][1:])
    assert environment_of(without, keys) == {**keys, "STACK_NAME": "shop"}
