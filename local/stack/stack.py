"""The local stack from start to stop: build, MiniStack, deployment, demo server, demo key, function URL.

Its one rule: whatever happens, nothing that it started is left running.
"""

import asyncio
import fcntl
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from socket import socket
from typing import Any

from openai_proxy.client_keys import hash_client_key, new_client_key
from openai_proxy.servers import servers_text

from local.demo.server import TOKEN_VARIABLE
from local.faults.rules import Faults
from local.issuer.people import identity_file
from local.issuer.sign_in import SignIn
from local.lambda_.environment import Environment
from local.lambda_.function import Function
from local.lambda_.function_url import FunctionUrl
from local.lambda_.sandboxes import Launch, SandboxPool
from local.lambda_.url_event import UrlIdentity
from local.stack import build, ministack
from local.stack.aws_gate import AwsGate
from local.stack.env_file import aws_command, environment_file, greeting, provider_tokens, servers_file, usable_servers
from local.stack.ports import listener, require_free, wait_for_answer
from local.stack.processes import Child, CommandError
from local.stack.settings import HOST, REGION, ROOT, Settings
from local.stack.webhooks import Webhook

_SERVER_STOP_SECONDS = 2.0
_READY_SECONDS = 60.0
_RESTART_SECONDS = 1.0
_INHERITED = {"DEMO_PORT": "demo", "ISSUER_PORT": "issuer"}
"""The servers, by the variables of their ports, that inherit a listener; and their logs."""
_AUTHORIZERS = min(os.cpu_count() or 1, 4)


class Stack:
    """One local stack. `say` prints a line; `environ` is searched for provider tokens."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._settings = settings
        self._environ = environ
        self._say = say
        self._demo_token = f"demo-{secrets.token_hex(24)}"
        self._listeners: dict[str, socket] = {}
        self._faults = Faults(settings.faults, time.monotonic, say) if settings.faults else None

    async def run(self) -> None:
        """Start everything and serve until cancelled; stop everything.

        Raises CommandError, PortTakenError, SandboxError or ServersFileError when it cannot start or go on.
        """
        began = time.monotonic()
        settings = self._settings
        require_free(settings.ports)
        listed = servers_text(settings.listed_servers)
        servers = servers_file(listed, settings.demo_url, self._demo_token)
        tokens = provider_tokens(servers, self._environ)
        async with AsyncExitStack() as cleanup:
            for variable in _INHERITED.keys() & settings.ports.keys():
                self._listeners[variable] = cleanup.enter_context(listener(variable, settings.ports[variable]))
            self._prepare_folder(cleanup)
            _write_private(settings.servers_file, servers)
            await self._start_issuer(cleanup)
            aws = ministack.Aws(settings)
            embedded_aws = await self._start_aws(cleanup, tokens)
            outputs = await self._deploy(aws)
            key = await asyncio.to_thread(self._client_key, aws.keys_table(outputs["KeysTable"]))
            await self._until_issuer_listens()
            first_worker = asyncio.create_task(asyncio.to_thread(_ask_authorizer, aws, outputs, key))
            cleanup.push_async_callback(_cancel, first_worker)
            await self._start_demo_server(cleanup)
            await self._start_webhooks(cleanup, aws)
            await self._start_proxy(cleanup, aws, outputs, tokens)
            await first_worker
            secret = await asyncio.to_thread(aws.secret, outputs["StreamWebhookSecret"]) if settings.webhooks else ""
            outputs["BusArchive"] = await asyncio.to_thread(aws.archive, outputs["BusName"])
            _write_private(settings.env_file, environment_file(settings, outputs, key, secret))
            _write_command(settings.tools / "aws", aws_command(settings))
            self._say(greeting(settings, outputs, key, usable_servers(servers, tokens)))
            self._say(f"Ready after {time.monotonic() - began:.1f} s.")
            if self._faults:
                self._faults.begin()
            cleanup.push_async_callback(_cancel, asyncio.create_task(_warm_up(aws, outputs, key)))
            status = await asyncio.shield(embedded_aws.exited)
            raise CommandError(f"MiniStack ended (status {status}); see {settings.log('ministack')}")

    def _prepare_folder(self, cleanup: AsyncExitStack) -> None:
        settings = self._settings
        settings.log("").parent.mkdir(parents=True, exist_ok=True)
        lock = cleanup.enter_context((settings.folder / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"Another local stack runs in {settings.folder}; stop it first") from None
        for name in ("build", "deploy", "ministack", "demo", "issuer", "proxy"):
            settings.log(name).write_bytes(b"")
        files = settings.env_file, settings.servers_file, settings.identity_file, settings.tools
        cleanup.callback(_remove, settings.temporary, *files)
        _remove(settings.temporary)
        settings.temporary.mkdir()
        if settings.keep_state:
            if not (settings.state / "deployed").is_file():
                _remove(settings.state)  # of a first deployment that was interrupted: it cannot be continued
            settings.state.mkdir(exist_ok=True)

    async def _start_aws(self, cleanup: AsyncExitStack, tokens: Mapping[str, str]) -> Child:
        settings = self._settings
        if not build.is_current(settings):
            self._say("Building the application (sam build) …")
            await build.build(settings)
        self._say(f"Starting MiniStack, the embedded AWS, on {settings.endpoint} …")
        embedded_aws = await ministack.start(settings, tokens, await self._gate_of_functions(cleanup))
        cleanup.push_async_callback(ministack.stop, embedded_aws)
        cleanup.callback(self._say, "Stopping …")
        return embedded_aws

    async def _gate_of_functions(self, cleanup: AsyncExitStack) -> str:
        """The address at which the functions that MiniStack runs call AWS; "" where no fault is to meet them."""
        if self._faults is None:
            return ""
        gate = AwsGate(self._settings.endpoint, _AUTHORIZERS, "functions", self._faults)
        cleanup.push_async_callback(gate.close)
        return await gate.start(HOST)

    async def _deploy(self, aws: ministack.Aws) -> dict[str, str]:
        """The outputs of the stack, deployed now unless the kept state has what would be deployed."""
        settings = self._settings
        deployed = settings.state / "deployed"
        wanted = f"{build.digest(settings)} {settings.parameters}"
        is_deployed = settings.keep_state and deployed.is_file() and deployed.read_text() == wanted
        if is_deployed and (outputs := await asyncio.to_thread(aws.outputs)):
            return outputs
        self._say("Deploying template.yaml into it (sam deploy) …")
        await ministack.deploy(settings)
        await asyncio.to_thread(aws.number_concurrency)
        if settings.keep_state:
            deployed.write_text(wanted)
        return await asyncio.to_thread(aws.outputs)

    def _client_key(self, table: Any) -> str:
        """The demo client's key: the one of last time if the table still has it, else a new one."""
        kept = self._settings.state / "client-key"
        if self._settings.keep_state and kept.is_file():
            key = kept.read_text()
            if "Item" in table.get_item(Key={"key_hash": hash_client_key(key)}):
                return key
        key = new_client_key()
        table.put_item(
            Item={
                "key_hash": hash_client_key(key),
                "client_id": "demo",
                "name": "Demo client of the local stack",
                "enabled": True,
                "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
        if self._settings.keep_state:
            _write_private(kept, key)
        return key

    async def _start_demo_server(self, cleanup: AsyncExitStack) -> None:
        settings = self._settings
        self._say(f"Starting the demo OpenAI server on http://{HOST}:{settings.demo_port} …")
        command = (sys.executable, "-m", "local.demo.server")
        environment = {TOKEN_VARIABLE: self._demo_token, "PATH": self._environ.get("PATH", "")}
        keeper = asyncio.create_task(self._keep("demo server", command, environment, "DEMO_PORT"))
        cleanup.push_async_callback(_cancel, keeper)
        if not await wait_for_answer(settings.demo_port, _READY_SECONDS):
            raise CommandError(f"The demo server does not answer; see {settings.log('demo')}")

    async def _start_webhooks(self, cleanup: AsyncExitStack, aws: ministack.Aws) -> None:
        """Hand messages to those webhooks whose address was given."""
        for each in build.destinations(self._settings):
            if url := self._settings.webhooks.get(each.parameter):
                queue, dead_letters = await asyncio.to_thread(aws.addresses, each.name, each.dead_letters)
                webhook = Webhook(each, url, aws.sqs(), (queue, dead_letters), self._say)
                cleanup.push_async_callback(_cancel, asyncio.create_task(webhook.run()))

    async def _start_issuer(self, cleanup: AsyncExitStack) -> None:
        """Start the OpenID provider while the embedded AWS starts."""
        settings = self._settings
        if settings.issuer is None:
            return
        settings.identity_file.write_text(identity_file(settings.issuer), encoding="utf-8")
        self._say(f"Starting the OpenID provider on {settings.issuer} …")
        command = (sys.executable, "-m", "local.issuer.server", "--port", str(settings.issuer_port))
        environment = {"PATH": self._environ.get("PATH", "")}
        keeper = asyncio.create_task(self._keep("OpenID provider", command, environment, "ISSUER_PORT"))
        cleanup.push_async_callback(_cancel, keeper)

    async def _until_issuer_listens(self) -> None:
        """Wait until the OpenID provider listens: the authorizer asks it for keys while it initialises."""
        settings = self._settings
        if settings.issuer_port and not await wait_for_answer(settings.issuer_port, _READY_SECONDS):
            raise CommandError(f"The OpenID provider does not answer; see {settings.log('issuer')}")

    async def _keep(self, what: str, command: Sequence[str], environment: Mapping[str, str], port: str) -> None:
        """Run a server, which inherits the listener of `port`, and again whenever it ends."""
        log, inherited = self._settings.log(_INHERITED[port]), self._listeners[port].fileno()
        command = (*command, "--fd", str(inherited))
        while True:
            child = await Child.start(command, environment, ROOT, log, [inherited])
            try:
                status = await asyncio.shield(child.exited)
            finally:
                await child.stop(_SERVER_STOP_SECONDS)
            self._say(f"The {what} ended (status {status}); starting it again.")
            await asyncio.sleep(_RESTART_SECONDS)

    async def _start_proxy(
        self, cleanup: AsyncExitStack, aws: ministack.Aws, outputs: Mapping[str, str], tokens: Mapping[str, str]
    ) -> None:
        settings = self._settings
        self._say(f"Starting the proxy behind http://{HOST}:{settings.port} …")
        configuration = await asyncio.to_thread(aws.function_configuration, outputs["ProxyFunctionName"])
        function = Function.from_configuration(configuration)
        gate = AwsGate(settings.endpoint, _AUTHORIZERS, faults=self._faults)
        cleanup.push_async_callback(gate.close)
        overrides = {
            **tokens,
            **ministack.CREDENTIALS,
            "AWS_ENDPOINT_URL": await gate.start(HOST),
            # On Lambda the package has its bytecode. Here it is kept beside the build, which is deployed as it is.
            "PYTHONPYCACHEPREFIX": str(settings.folder / "pycache"),
        }
        root = build.task_root(settings)
        several = function.of_managed_instances(settings.concurrency) if settings.concurrency else {}
        launch = Launch(
            # As Lambda calls the exec wrapper of the streaming proxy: with interpreter and the managed runtime's loop.
            command=(root / "proxy/bootstrap", build.python_of_sandboxes(), "/var/runtime/bootstrap.py"),
            environment=function.sandbox_environment(root, build.layer(settings), {**overrides, **several}),
            folder=root,
            log=settings.log("proxy"),
        )
        pool = (Environment if several else SandboxPool)(
            launch, function.arn, timeout=function.timeout, report=self._say
        )
        cleanup.push_async_callback(pool.close)
        await pool.open()
        people = SignIn(settings.issuer)
        cleanup.push_async_callback(people.close)
        url = FunctionUrl(pool.invoke, UrlIdentity.from_url(outputs["FunctionUrl"]), people.serve)
        cleanup.push_async_callback(url.close)
        require_free({"PORT": settings.port})
        await url.start(HOST, settings.port)


def _ask_authorizer(aws: ministack.Aws, outputs: Mapping[str, str], key: str) -> None:
    """Have MiniStack start a worker of the authorizer, if all are busy. (One that refuses a key ends.)"""
    question = {
        "type": "REQUEST",
        "methodArn": f"arn:aws:execute-api:{REGION}:000000000000:function-url/url/GET/",
        "headers": {"Authorization": f"Bearer {key}"},
    }
    aws.invoke(outputs["AuthorizerFunctionName"], question)


async def _warm_up(aws: ministack.Aws, outputs: Mapping[str, str], key: str) -> None:
    """Have MiniStack start the workers that many requests at once need: each takes a second or more of CPU."""
    for name in ("RecordCostFunctionName", "RecordMetricsFunctionName"):
        await asyncio.to_thread(aws.invoke, outputs[name], {"Records": []})
    await asyncio.gather(*(asyncio.to_thread(_ask_authorizer, aws, outputs, key) for _ in range(_AUTHORIZERS)))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _write_command(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def _write_private(path: Path, text: str) -> None:
    """Write a file that holds a key or a token: nobody else may read it."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="utf-8")
