"""MiniStack, the embedded AWS: it is started for this stack alone, and the real template is deployed into it.

Everything that MiniStack writes lies in the stack's folder, and everything that it opens is on 127.0.0.1.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any

import boto3
import httpx
from botocore.exceptions import ClientError

from local.stack.build import tool_environment
from local.stack.ports import require_free
from local.stack.processes import Child, CommandError, run
from local.stack.settings import HOST, REGION, ROOT, Settings

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

_ARCHIVE = "openai-proxy-events"
_ARCHIVED = '{"source": ["openai-proxy"], "detail-type": [{"anything-but": ["ResponseCaptured"]}]}'
"""What the template archives."""
_READY_SECONDS = 120.0
_POLL_SECONDS = 0.05
_STOP_SECONDS = 60.0
"""Its kept state is lost when it is stopped for good before it has written it, which takes long on a busy machine."""


async def start(settings: Settings, tokens: Mapping[str, str], endpoint_of_functions: str = "") -> Child:
    """Start MiniStack and wait until it answers. `tokens` reach the functions it runs. Raises CommandError, and
    PortTakenError: since the stack began somebody else may have come to listen there, who would answer in its place.

    The functions call AWS at `endpoint_of_functions`, by default at MiniStack itself.
    """
    require_free({"MINISTACK_PORT": settings.ministack_port})
    persisted = settings.state if settings.keep_state else settings.temporary
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        **CREDENTIALS,
        **tokens,
        **({"AWS_ENDPOINT_URL": endpoint_of_functions} if endpoint_of_functions else {}),
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(settings.ministack_port),
        "MINISTACK_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        # A worker of a function takes a second of CPU to start, so none is ended for being idle.
        "LAMBDA_WARM_TTL_SECONDS": "86400",
        # Nobody here needs these listeners, and their ports are fixed.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "TMPDIR": str(settings.temporary),
        "PERSIST_STATE": "1" if settings.keep_state else "0",
        "STATE_DIR": str(persisted / "services"),
        "S3_PERSIST": "1" if settings.keep_state else "0",
        "S3_DATA_DIR": str(persisted / "s3"),
    }
    log = settings.log("ministack")
    try:
        child = await Child.start((settings.ministack,), environment, settings.temporary, log)
    except FileNotFoundError:
        raise CommandError(f"{settings.ministack} is missing: `make run` installs it") from None
    try:
        await _until_ready(settings, child)
    except BaseException:
        await stop(child)
        raise
    return child


async def stop(child: Child) -> None:
    """Stop MiniStack; it writes its state first, when that is kept."""
    await child.stop(_STOP_SECONDS)


async def _until_ready(settings: Settings, child: Child) -> None:
    async def poll(client: httpx.AsyncClient) -> None:
        while not await _answers(client, f"{settings.endpoint}/_ministack/health"):
            if child.exited.done():
                raise CommandError(f"MiniStack ended (status {child.exited.result()}); see {settings.log('ministack')}")
            await asyncio.sleep(_POLL_SECONDS)

    try:
        # One client for all these questions: each new one reads every certificate of this machine.
        async with httpx.AsyncClient(timeout=1, trust_env=False) as client:
            await asyncio.wait_for(poll(client), _READY_SECONDS)
    except TimeoutError:
        raise CommandError(f"MiniStack does not answer; see {settings.log('ministack')}") from None


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx.TransportError:
        return False


async def deploy(settings: Settings) -> None:
    """`sam deploy` what was built. Raises CommandError."""
    environment = {
        **tool_environment(settings),
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": settings.endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "SAM_CLI_POLL_DELAY": "0.2",
    }
    command = (
        *(settings.sam, "deploy", "--template-file", settings.template),
        *("--stack-name", settings.stack_name, "--region", REGION, "--resolve-s3", "--language-extensions"),
        *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"),
        *("--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar", "--parameter-overrides"),
        *(f"{name}={value}" for name, value in settings.parameters.items()),
    )
    await run(command, environment, ROOT, settings.log("deploy"))


class Aws:
    """boto3 clients for this stack's MiniStack."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Any: every new client's type is an overload over all services of AWS.
        self._session: Any = boto3.Session("test", "test", region_name=REGION)
        # Threads may share a client, but not the making of one.
        self._cloudformation = self._session.client("cloudformation", endpoint_url=settings.endpoint)
        self._functions = self._session.client("lambda", endpoint_url=settings.endpoint)

    def outputs(self) -> dict[str, str]:
        """The stack's outputs; none when it is not deployed."""
        try:
            stacks = self._cloudformation.describe_stacks(StackName=self._settings.stack_name)["Stacks"]
        except ClientError:
            return {}
        return {each["OutputKey"]: each["OutputValue"] for each in stacks[0].get("Outputs", [])}

    def addresses(self, *names: str) -> list[str]:
        """The physical ids of resources of the stack; that of a queue is its address."""
        found = self._cloudformation.describe_stack_resources(StackName=self._settings.stack_name)["StackResources"]
        known = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found}
        return [known[name] for name in names]

    def sqs(self) -> Any:
        """A client of its queues."""
        return self._session.client("sqs", endpoint_url=self._settings.endpoint)

    def secret(self, name: str) -> str:
        """The text of a secret."""
        client = self._session.client("secretsmanager", endpoint_url=self._settings.endpoint)
        return client.get_secret_value(SecretId=name)["SecretString"]

    def function_configuration(self, name: str) -> Mapping[str, Any]:
        """The deployed configuration of a function."""
        return self._functions.get_function_configuration(FunctionName=name)

    def invoke(self, function: str, event: Any) -> None:
        """Invoke a function and forget its answer."""
        self._functions.invoke(FunctionName=function, Payload=json.dumps(event))

    def number_concurrency(self) -> None:
        """Say again, as numbers, how many batches of each queue are handled at a time.

        Where a parameter of the template says it, MiniStack keeps a text, fails to compare it, and reads no queue at
        all. What it lists are numbers here: botocore makes them of texts.
        """
        for page in self._functions.get_paginator("list_event_source_mappings").paginate():
            for each in page["EventSourceMappings"]:
                if scaling := each.get("ScalingConfig"):
                    self._functions.update_event_source_mapping(UUID=each["UUID"], ScalingConfig=scaling)

    def archive(self, bus: str) -> str:
        """The archive of a bus, as the template has it, made if it is not there. Its ARN."""
        events = self._session.client("events", endpoint_url=self._settings.endpoint)
        found = events.list_archives(NamePrefix=_ARCHIVE)["Archives"]
        if not found:
            events.create_archive(
                ArchiveName=_ARCHIVE,
                EventSourceArn=events.describe_event_bus(Name=bus)["Arn"],
                EventPattern=_ARCHIVED,
            )
        return events.describe_archive(ArchiveName=_ARCHIVE)["ArchiveArn"]

    def keys_table(self, name: str) -> Any:
        """The table of client keys."""
        return self._session.resource("dynamodb", endpoint_url=self._settings.endpoint).Table(name)
