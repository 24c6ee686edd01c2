"""The process of the command line: interrupted, on a full disk, without a reader, a stream or an account."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-m", "console"]
_SAYS = "openai-proxy: interrupted."
# Where an interrupt may come: each is a module that is loaded on the way, and the last one a call while a command runs.
_MOMENTS = (
    "console.command_line",
    "argparse",
    "console.arguments",
    "console.servers.commands",
    "yaml",
    "openai_proxy.servers",
)


def environment(**more: str) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return others | {"HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"} | more


def ran(*words: str, stdout: Any = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *words]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT, env=environment()
    )


@pytest.mark.parametrize("moment", _MOMENTS)
def test_an_interrupt_while_modules_are_loaded_is_one_line(moment: str):
    program = f"""
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {moment!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv[1:] = ["servers", "check"]
from console.program import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT, env=environment()
    )

    assert (done.returncode, done.stderr.split("\n")) == (130, ["", _SAYS, ""])


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher, beside a program whose Python interrupts itself at the import that $AT counts."""
    folder = tmp_path_factory.mktemp("bin")
    shutil.copy(ROOT / "console" / "launcher.sh", folder / "openai-proxy")
    path = f"{folder / 'modules'}:{ROOT}:{ROOT / 'shared'}"
    (folder / "modules").mkdir()
    program = "import sys; from console.program import main; sys.exit(main())"
    started = folder / "openai-proxy-python"
    started.write_text(f'#!/bin/sh\nexport PYTHONPATH={path}\nexec {sys.executable} -P -c "{program}" "$@"\n')
    started.chmod(0o755)
    (folder / "modules" / "sitecustomize.py").write_text(
        """
import os, signal, sys
class Interrupting:
    left = int(os.environ["AT"])
    def find_spec(self, name, path=None, target=None):
        Interrupting.left -= 1
        if not Interrupting.left:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
"""
    )
    return folder / "openai-proxy"


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 13, 21, 34, 55])
def test_an_interrupt_before_the_first_line_of_the_program_is_one_line_too(at: int, launcher: Path):
    """Where Python starts up, looks for the module and loads it, at any import."""
    command = [launcher, "servers", "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment(AT=str(at)))

    assert (done.returncode, done.stderr.split("\n")) == (130, ["", _SAYS, ""])


def test_an_interrupt_of_the_launcher_itself_is_one_line_too(launcher: Path, tmp_path: Path):
    """While it asks whether `env` can hold the signal back. No shell can trap a signal that it is started without."""
    asked = tmp_path / "env"
    asked.write_text("#!/bin/sh\nkill -INT $PPID\nexit 1\n")
    asked.chmod(0o755)
    search = environment(AT="0", PATH=f"{tmp_path}:{os.environ['PATH']}")
    program = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, launcher, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=search)

    assert (done.returncode, done.stdout, done.stderr.split("\n")) == (130, "", ["", _SAYS, ""])


def test_an_interrupt_that_meets_what_python_ignores_is_one_line_too():
    """As the callback of a weak reference is, which imports leave behind."""
    program = """
import os, signal, sys, threading, weakref
from console import command_line, program
class Thing: ...
def run(given, environ, began):
    began()
    thing = Thing()
    kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del thing
    threading.Event().wait(60)
    return 0
command_line._run = run
sys.exit(program.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT, env=environment()
    )

    assert (done.returncode, done.stderr.split("\n")) == (130, ["", _SAYS, ""])


def test_an_interrupt_while_python_ends_changes_nothing():
    program = """
import atexit, os, signal, sys
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv[1:] = ["--version"]
from console.program import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT, env=environment()
    )

    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "openai-proxy", "")


def test_the_launcher_loads_nothing_of_the_folder_that_it_is_started_in(launcher: Path, tmp_path: Path):
    """A link to it starts the same Python."""
    (tmp_path / "argparse.py").write_text("print('not this one')")
    (tmp_path / "linked").symlink_to(launcher)
    done = subprocess.run(
        [tmp_path / "linked", "--version"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment(AT="0"),
    )

    assert (done.returncode, done.stdout.split()[0]) == (0, "openai-proxy")


def test_an_interrupt_of_a_command_that_runs_is_one_line_too(tmp_path: Path):
    file = tmp_path / "servers.yaml"
    os.mkfifo(file)
    command = [*PROGRAM, "servers", "check", str(file)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment())
    with process, file.open("w"):  # which waits until the command reads
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]

    assert (process.returncode, said.split("\n")) == (130, ["", _SAYS, ""])


@pytest.mark.parametrize("words", [("servers", "check"), ("completion", "bash"), ("--help",), ("keys", "--help")])
def test_a_full_disk_is_one_line(words: tuple[str, ...]):
    with Path("/dev/full").open("w") as full:
        done = ran(*words, stdout=full)

    says = "openai-proxy: The output cannot be written: No space left on device.\n"
    assert (done.returncode, done.stderr) == (2, says)


@pytest.mark.parametrize("words", [("--help",), ("servers", "check"), ("keys", "--help")])
def test_a_reader_that_goes_away_is_no_error(words: tuple[str, ...]):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = ran(*words, stdout=gone)

    assert (done.returncode, done.stderr) == (0, "")


def test_streams_that_the_caller_has_closed_are_no_error():
    command = f"exec {sys.executable} -m console servers check <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False, cwd=ROOT, env=environment()).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        "keys list",
        "keys create --client-id a --name x",
        "costs",
        "costs query SELECT",
        "cache stats",
        "events replay --day today",
        "doctor",
        "top --once",
        "users list",
        "teams list",
    ],
)
def test_without_an_account_it_says_so_in_one_line(words: str):
    done = ran(*words.split(), "--region", "eu-central-1")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "openai-proxy: There are no AWS credentials. Remedy: name a profile with --profile, "
        "or for the local stack: source .local/env\n"
    )


def loaded_by(words: str) -> set[str]:
    show = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    show += "from console.command_line import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", show, *words.split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment(),
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "words",
    [
        "costs --help",
        "keys create --help",
        "cache stats --help",
        "doctor --help",
        "top --help",
        "keys lsit",
        "completion --help",
    ],
)
def test_what_calls_nobody_loads_little(words: str):
    """Half a thousand modules are a quarter of a second of a processor."""
    loaded = loaded_by(words)
    assert not loaded & {
        "boto3",
        "botocore",
        "matplotlib",
        "rich",
        "jinja2",
        "yaml",
        "httpx",
        "shtab",
    }
    assert len(loaded) < 210
