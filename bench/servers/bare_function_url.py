"""The local stack's function URL before `bare_function`: `python -m bench.servers.bare_function_url PORT FOLDER`.

It is what the stack runs, without the stack: no embedded AWS, no proxy.
"""

import asyncio
import sys
from pathlib import Path

from local.http import loop
from local.lambda_.function_url import FunctionUrl
from local.lambda_.sandboxes import Launch, SandboxPool
from local.lambda_.url_event import UrlIdentity
from local.stack.settings import HOST, ROOT

_ARN = "arn:aws:lambda:us-east-1:000000000000:function:bare"
_URL = "https://abcdefghijklmnopqrstuvwxyz012345.lambda-url.us-east-1.on.aws/"


async def serve(port: int, folder: Path) -> None:
    """Until the process is ended; sandboxes are its children, and see that it is gone."""
    command = (sys.executable, "-m", "bench.servers.bare_function")
    launch = Launch(command, {"PYTHONPATH": str(ROOT)}, ROOT, folder / "bare_function.log")
    pool = SandboxPool(launch, _ARN, timeout=900.0, report=print)
    await pool.open()
    await FunctionUrl(pool.invoke, UrlIdentity.from_url(_URL)).start(HOST, port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    loop.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
