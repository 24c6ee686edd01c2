"""MiniStack by itself, for trials that need its DynamoDB and no application."""

import contextlib
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

from bench.ports import free_port
from bench.processes import BUILD, ROOT
from local.stack import ministack
from local.stack.settings import Settings


@contextlib.asynccontextmanager
async def emulator() -> AsyncGenerator[str]:
    """The address of its DynamoDB."""
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(
            port=0,
            ministack_port=free_port(),
            demo_port=0,
            folder=Path(name),
            keep_state=False,
            ministack=ROOT / ".venv-ministack" / "bin" / "ministack",
            sam=ROOT / ".venv-ministack" / "bin" / "sam",
            build=BUILD,
        )
        for folder in (settings.temporary, settings.log("ministack").parent):
            folder.mkdir()
        child = await ministack.start(settings, {})
        try:
            yield settings.endpoint
        finally:
            await ministack.stop(child)
