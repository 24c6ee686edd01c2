"""What can be chosen about the local stack: ports, folders, whether its state is kept."""

import argparse
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from openai_proxy.guards.file import GUARDS_FILE, GuardsFileError, load_guards

from local.stack.choices import parameters, switch

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
REGION = "us-east-1"
SERVERS = ROOT / "openai_servers.yaml"
_WEBHOOKS = ("StreamWebhookUrl", "AlarmWebhookUrl")
NO_ADDRESS = "https://webhook.invalid/"
"""What the parameter of a webhook's address is deployed with: an address that nobody has (RFC 2606)."""
_MOST_AT_A_TIME = 1600
"""The most requests at a time that Lambda allows for one environment."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One local stack. Two of them live side by side when they differ in `folder` and in every port."""

    port: int
    ministack_port: int
    demo_port: int
    folder: Path
    keep_state: bool
    ministack: Path
    sam: Path
    build: Path
    """Where `sam build` puts the application. Not .aws-sam/build: `make deploy` builds there, for another Python."""
    listed_servers: Path = SERVERS
    """The servers that this stack lists beside its demo server."""
    authorization: bool = True
    """Whether requests need a client key."""
    stack_name: str = "openai-proxy"
    chosen: Mapping[str, str] = field(default_factory=dict[str, str])
    """Parameters of the template that were chosen for this stack."""
    webhooks: Mapping[str, str] = field(default_factory=dict[str, str])
    """The addresses of webhooks, by the parameters of the template that name them."""
    faults: Path | None = None
    """The file that says which calls to the embedded AWS go wrong."""
    issuer_port: int | None = None
    """Where people sign in; None where nobody does."""
    concurrency: int | None = None
    """How many requests one environment of managed instances has at a time; None: each request has a sandbox."""

    @property
    def ports(self) -> dict[str, int]:
        """The ports that have to be free, by the names of their settings."""
        own = {"PORT": self.port, "MINISTACK_PORT": self.ministack_port, "DEMO_PORT": self.demo_port}
        return own if self.issuer_port is None else {**own, "ISSUER_PORT": self.issuer_port}

    @property
    def endpoint(self) -> str:
        """MiniStack's address: AWS_ENDPOINT_URL."""
        return f"http://{HOST}:{self.ministack_port}"

    @property
    def demo_url(self) -> str:
        """The demo server's base URL."""
        return f"http://{HOST}:{self.demo_port}/v1"

    @property
    def servers_file(self) -> Path:
        """The servers file of this stack: the listed servers, and the demo server."""
        return self.folder / "openai_servers.yaml"

    @property
    def issuer(self) -> str | None:
        """The issuer of this stack's access tokens, where it has one."""
        return None if self.issuer_port is None else f"http://{HOST}:{self.issuer_port}"

    @property
    def identity_file(self) -> Path:
        """The identity file of this stack. It is there where the stack has an issuer."""
        return self.folder / "identity.yaml"

    @property
    def guards_file(self) -> Path:
        """The owner's guards, beside the listed servers; without any in it guards are off."""
        return self.listed_servers.with_name(GUARDS_FILE)

    @property
    def env_file(self) -> Path:
        """The file to source."""
        return self.folder / "env"

    @property
    def state(self) -> Path:
        """What outlives the stack when its state is kept."""
        return self.folder / "state"

    @property
    def tools(self) -> Path:
        """What the file to source puts on the PATH."""
        return self.folder / "bin"

    @property
    def temporary(self) -> Path:
        """What never outlives the stack."""
        return self.folder / "tmp"

    @property
    def template(self) -> Path:
        """What is deployed: what was built, as far as the embedded AWS knows what is in it."""
        return self.build / "template.local.yaml"

    def log(self, name: str) -> Path:
        """The log file of one part of the stack."""
        return self.folder / "logs" / f"{name}.log"

    @property
    def build_parameters(self) -> dict[str, str]:
        """The template's parameters that matter to a build: this machine's Python and architecture."""
        return {
            "PythonVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
            "Architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
        }

    @property
    def parameters(self) -> dict[str, str]:
        """All of the template's parameters that are not left at their defaults.

        MiniStack cannot stream, does not know the address of API Gateway's streaming invocations (its REST API gives
        whole answers), and has no saved queries of CloudWatch Logs, no alarms on formulas and no composite ones. Its
        CloudFormation has no event archives; `Aws.archive` makes the one. The streaming function URL is this package's
        own, and so is who hands messages to webhooks: what is deployed names no address of them. For each batch that is
        handled at a time it starts a process.
        """
        local = {
            "ServersFile": str(self.servers_file),
            "IdentityFile": str(self.identity_file),
            "BatchWindowSeconds": "1",
            "LedgerConcurrency": "2",
            "Streaming": "false",
            "NamedQueriesEnabled": "false",
            "AlarmFormulasEnabled": "false",
            "EventArchiveDays": "0",
            "ContentLogEnabled": "true",
            "PlaygroundEnabled": "true",
            "StreamWebhookUrl": NO_ADDRESS,
        }
        if not self.authorization:
            local["AuthorizationEnabled"] = "false"
        if load_guards(self.guards_file):
            local["GuardsFile"] = str(self.guards_file)
        return {**self.build_parameters, **local, **self.chosen, **dict.fromkeys(self.webhooks, NO_ADDRESS)}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. Remedy: `{self.prog} --help` says what it takes.\n")


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the command line; what it leaves open comes from the environment, as `make run PORT=8081` sets it."""
    parser = _Parser(prog="python -m local", description="The whole application on this machine.")
    commands = parser.add_subparsers(required=True, metavar="run")
    run = commands.add_parser("run", help="build, deploy into MiniStack and serve until Ctrl-C")
    _add_options(run, environ)
    options = parser.parse_args(arguments)
    if not options.servers_file.is_file():
        run.error(f"there is no servers file {options.servers_file}")
    if options.faults and not options.faults.is_file():
        run.error(f"there is no faults file {options.faults}; docs/local.md shows one")
    try:
        load_guards(options.servers_file.with_name(GUARDS_FILE))
    except GuardsFileError as error:
        run.error(str(error))
    folder: Path = options.folder.resolve()
    chosen = parameters(options.parameters, ROOT / "template.yaml", run)
    webhooks = {name: url for name in _WEBHOOKS if (url := chosen.pop(name, ""))}
    if options.stream_webhook:
        webhooks["StreamWebhookUrl"] = options.stream_webhook
    for url in webhooks.values():
        if not re.fullmatch(r"https?://[^/\s]+\S*", url):
            run.error(f"{url} is no address of a webhook: it begins with http:// or https://")
    return Settings(
        port=options.port,
        ministack_port=options.ministack_port,
        demo_port=options.demo_port,
        folder=folder,
        keep_state=options.keep_state,
        ministack=Path(environ.get("MINISTACK") or ROOT / ".venv-ministack/bin/ministack"),
        sam=Path(sys.executable).parent / "sam",
        build=(options.build or folder / "build").resolve(),
        listed_servers=options.servers_file.resolve(),
        authorization=not options.no_authorization,
        chosen=chosen,
        webhooks=webhooks,
        faults=options.faults.resolve() if options.faults else None,
        issuer_port=None if options.no_issuer or options.no_authorization else options.issuer_port,
        concurrency=options.concurrency,
    )


def _add_ports(run: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    def port(variable: str, default: int) -> int:
        value = environ.get(variable) or str(default)
        if not value.isdigit() or not 0 < int(value) < 65536:
            run.error(f"{variable}={value} is not a port")
        return int(value)

    run.add_argument("--port", type=int, default=port("PORT", 8080), help="the function URL's (PORT; 8080)")
    run.add_argument("--ministack-port", type=int, default=port("MINISTACK_PORT", 4566), help="(MINISTACK_PORT; 4566)")
    run.add_argument(
        "--demo-port", type=int, default=port("DEMO_PORT", 8090), help="the demo server's (DEMO_PORT; 8090)"
    )
    run.add_argument(
        "--issuer-port", type=int, default=port("ISSUER_PORT", 8091), help="the OpenID provider's (ISSUER_PORT; 8091)"
    )


def _concurrency(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) <= _MOST_AT_A_TIME:
        raise argparse.ArgumentTypeError(f"CONCURRENCY={text} is no number from 1 to {_MOST_AT_A_TIME}")
    return int(text)


def _add_what_is_deployed(run: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    run.add_argument(
        "--servers-file",
        type=Path,
        default=environ.get("SERVERS_FILE") or SERVERS,
        help="the servers (SERVERS_FILE; openai_servers.yaml)",
    )
    run.add_argument(
        "--no-authorization",
        action="store_true",
        default=switch("AUTHORIZATION", environ, run) is False,
        help="requests need no client key (AUTHORIZATION=off)",
    )
    run.add_argument(
        "--parameters",
        default=environ.get("PARAMETERS", ""),
        help="parameters of the template, as in 'LimitsFailurePolicy=closed AlarmsEnabled=false' (PARAMETERS)",
    )
    run.add_argument(
        "--stream-webhook",
        default=environ.get("STREAM_WEBHOOK_URL", ""),
        help="an address that is told when an answer is there whose client did not wait for it (STREAM_WEBHOOK_URL)",
    )


def _add_options(run: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    _add_ports(run, environ)
    _add_what_is_deployed(run, environ)
    run.add_argument(
        "--concurrency",
        type=_concurrency,
        default=environ.get("CONCURRENCY", ""),
        help="one environment of managed instances, with so many requests at a time (CONCURRENCY)",
    )
    run.add_argument(
        "--no-issuer",
        action="store_true",
        default=switch("ISSUER", environ, run) is False,
        help="nobody signs in: client keys alone (ISSUER=off)",
    )
    run.add_argument(
        "--keep-state",
        action="store_true",
        default=switch("KEEP_STATE", environ, run) is True,
        help="tables, keys and costs survive a restart (KEEP_STATE=1)",
    )
    run.add_argument("--folder", type=Path, default=ROOT / ".local", help="logs and state (.local)")
    run.add_argument("--build", type=Path, help="what sam build makes (FOLDER/build)")
    run.add_argument(
        "--faults",
        type=Path,
        default=environ.get("FAULTS") or None,
        help="a file of faults: which calls to the embedded AWS go wrong (FAULTS)",
    )
