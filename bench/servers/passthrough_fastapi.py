"""What most people would write instead of this project: a streaming pass-through with FastAPI, uvicorn and httpx.

No client keys, no usage, no events: it swaps the token and relays the bytes. One shared client, nothing parsed,
nothing logged per request. Run it with `uvicorn bench.servers.passthrough_fastapi:app`; UPSTREAM is the server's
address.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

UPSTREAM = os.environ["UPSTREAM"]
TOKEN = os.environ.get("UPSTREAM_TOKEN", "token")
FORWARDED = ("accept", "content-type")
RETURNED = ("content-type", "cache-control", "x-request-id")

client = httpx.AsyncClient(
    timeout=httpx.Timeout(300.0, connect=5.0),
    # By default httpx keeps 20 connections: of 32 requests at once, 12 would open new ones each time.
    limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
    trust_env=False,
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Close the client with the application."""
    yield
    await client.aclose()


app = FastAPI(lifespan=lifespan, openapi_url=None)


@app.api_route("/openai/v1/{path:path}", methods=["GET", "POST", "DELETE"])
async def relay(path: str, request: Request) -> StreamingResponse:
    """Send the request on and stream the answer back as it comes."""
    headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
    headers["authorization"] = f"Bearer {TOKEN}"
    outgoing = client.build_request(
        request.method,
        f"{UPSTREAM}/v1/{path}",
        params=request.query_params,
        headers=headers,
        content=await request.body(),
    )
    answer = await client.send(outgoing, stream=True)
    return StreamingResponse(
        answer.aiter_raw(),
        status_code=answer.status_code,
        headers={name: answer.headers[name] for name in RETURNED if name in answer.headers},
        background=BackgroundTask(answer.aclose),
    )
