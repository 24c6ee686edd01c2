"""The built application, for another Python and another processor than this machine's: what Lambda would load of it."""

import difflib
import importlib.machinery
import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from openai_proxy.yaml_files import as_built, read_text

from deployment.build import LAYERS, ROOT, build, built_template
from deployment.bytecode import NoPythonError, compile_in, python_of
from deployment.packages import PackagesError, install, misfits
from deployment.target import Target

ARM = Target("3.13", "arm64")
SUFFIX = ".cpython-313-aarch64-linux-gnu.so"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application for Python 3.13 on arm64, with bytecode where a Python 3.13 is here."""
    into = tmp_path_factory.mktemp("built") / "build"
    try:
        python = python_of(ARM.python)
    except NoPythonError:
        python = None
    build(into, ARM, python)
    return into


def test_compiled_modules_are_for_the_target_alone(built: Path) -> None:
    modules = {path.name for path in built.rglob("*.so") if ".cpython-" in path.name}

    assert f"_yaml{SUFFIX}" in modules
    assert {path.name for path in (built / "SharedLayer" / "python").iterdir()} >= {"aws_xray_sdk", "wrapt", "yaml"}
    assert not (built / "SharedLayer" / "python" / "botocore").exists(), "the runtime brings it"
    assert all(name.endswith(SUFFIX) for name in modules)
    for layer in LAYERS:
        assert misfits(built / layer, ARM) == []
        assert misfits(built / layer, Target("3.12", "arm64")) != []
        assert misfits(built / layer, Target("3.13", "x86_64")) != []


def test_its_compiled_yaml_is_found_by_the_name_that_the_target_looks_for(built: Path) -> None:
    folder = str(built / "SharedLayer" / "python" / "yaml")
    loader = (importlib.machinery.ExtensionFileLoader, [SUFFIX])

    found = importlib.machinery.FileFinder(folder, loader).find_spec("_yaml")

    assert found is not None
    assert found.origin
    assert found.origin == f"{folder}/_yaml{SUFFIX}"
    with Path(found.origin).open("rb") as file:
        assert file.read(20)[18:] == b"\xb7\x00"  # EM_AARCH64 of an ELF file


def test_bytecode_is_there_and_is_the_targets_where_a_python_of_it_was(built: Path) -> None:
    has_bytecode = json.loads((built / "built.json").read_text())["bytecode"]
    sources = [path for path in built.rglob("*.py") if "tests" not in path.parts]
    compiled = [path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc" for path in sources]

    assert sources
    assert {path.exists() for path in compiled} == {has_bytecode}
    assert {path.name for path in built.rglob("*.pyc")} <= {path.name for path in compiled}
    if has_bytecode:
        flags = {int.from_bytes(path.read_bytes()[4:8], "little") for path in compiled}
        assert flags == {0b01}, "by hash, and never checked"


def test_the_owners_files_and_the_wrapper_are_whole(built: Path) -> None:
    for name in ("openai_servers.yaml", "prices.yaml", "identity.yaml", "guards.yaml"):
        shipped = built / "SharedLayer" / "python" / name
        assert not shipped.is_symlink()
        assert read_text(shipped) == as_built(read_text(ROOT / name)), "no cold start reads YAML"
    assert (built / "functions" / "proxy" / "bootstrap").stat().st_mode & 0o111 == 0o111
    assert not list(built.rglob("requirements.*"))


def test_every_function_and_layer_of_the_template_is_one_of_the_folders(built: Path) -> None:
    before = (ROOT / "template.yaml").read_text().splitlines()
    after = (built / "template.yaml").read_text().splitlines()
    changes = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    handlers = [line.split()[1].partition(".")[0] for line in before if line.startswith("      Handler:")]

    removed, added = (sorted(line[2:] for line in changes if line[0] == sign) for sign in "-+")
    assert removed == sorted(["    CodeUri: functions/", *(f"      ContentUri: {each}/" for each in LAYERS.values())])
    assert added == sorted(
        ["      CodeUri: functions"] * (len(handlers) - 1) + [f"      ContentUri: {each}" for each in LAYERS]
    )
    assert len(handlers) == before.count("    Type: AWS::Serverless::Function") + before.count("      Code: functions/")
    assert before.count("      Code: functions/") == 1, "the proxy's, which is the same folder beside both templates"
    assert all((built / "functions" / each / "handler.py").is_file() for each in handlers)


def test_a_template_without_code_is_refused() -> None:
    with pytest.raises(ValueError, match="Globals"):
        built_template("Resources: {}\n")


def test_a_file_of_the_owner_that_cannot_be_read_ends_the_build(tmp_path: Path) -> None:
    for folder in ("functions", "shared", "layers/tokens", "layers/tracing"):
        (tmp_path / "root" / folder).mkdir(parents=True)
        (tmp_path / "root" / folder / "requirements.txt").touch()
    (tmp_path / "root/shared/openai_servers.yaml").write_text("a: {url: b, url: c}")
    with pytest.raises(ValueError, match=r"openai_servers\.yaml: 'a\.url' stands there twice .* Remedy: "):
        build(tmp_path / "into", ARM, None, tmp_path / "root")
    assert not (tmp_path / "into").exists()


def test_what_has_no_wheel_for_the_target_or_another_hash_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "sample-1.0-cp39-cp39-win32.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("sample-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"--no-index\n--find-links {tmp_path}\nsample==1.0 --hash=sha256:{'0' * 64}\n")

    with pytest.raises(PackagesError, match="Remedy"):
        install(requirements, tmp_path / "into", ARM)


def test_bytecode_is_used_without_its_source_being_looked_at(tmp_path: Path) -> None:
    module = tmp_path / "sample.py"
    module.write_text("SAID = 'compiled'\n")
    compile_in(tmp_path, sys.executable)
    module.write_text("SAID = 'changed'\n")

    ran = subprocess.run(
        [sys.executable, "-c", "import sample; print(sample.SAID)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == "compiled\n"


def test_sam_mounts_the_links_of_the_layer_into_its_container() -> None:
    """`sam build --use-container` sees what the links at the top of shared/ name only when it is told to."""
    settings = tomllib.loads((ROOT / "samconfig.toml").read_text())
    links = [path for path in (ROOT / "shared").rglob("*") if path.is_symlink()]

    assert settings["default"]["build"]["parameters"]["mount_symlinks"] is True
    assert {path.parent for path in links} == {ROOT / "shared"}
