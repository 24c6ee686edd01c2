"""Streams an answer that outlives its connection, with OpenAI's SDK, which reads OPENAI_BASE_URL and OPENAI_API_KEY."""

import asyncio
import os
import sys

import httpx2 as httpx
from openai import APIError, AsyncOpenAI
from resumable import ResumableTransport


async def main(question: str) -> None:
    """Print the answer while it comes; pull the plug meanwhile, and put it back."""
    connections = httpx.AsyncClient(transport=ResumableTransport(), timeout=60)
    async with AsyncOpenAI(http_client=connections) as client:
        stream = await client.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL", "demo"),
            messages=[{"role": "user", "content": question}],
            stream=True,
            stream_options={"include_usage": True},
        )
        usage = None
        async with stream:  # leaving the block early stops the model
            async for chunk in stream:
                if chunk.choices:
                    print(chunk.choices[0].delta.content or "", end="", flush=True)
                usage = chunk.usage or usage
    if usage:
        print(f"\n{usage.prompt_tokens} + {usage.completion_tokens} tokens")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "Tell me about proxies"))
    except APIError as error:
        sys.exit(f"\n{error.code}: {error.message}")
