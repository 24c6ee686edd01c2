"""Streams an answer with OpenAI's SDK, which reads OPENAI_BASE_URL and OPENAI_API_KEY, the client key, by itself."""

import asyncio
import os
import sys

from openai import APIError, AsyncOpenAI


async def main(question: str) -> None:
    """Print the answer while it comes, then its tokens."""
    async with AsyncOpenAI() as client:
        stream = await client.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL", "demo"),
            messages=[{"role": "user", "content": question}],
            stream=True,
            stream_options={"include_usage": True},
        )
        usage = None
        # Leaving the block early closes the connection; without it a server might go on to the end, and charge for it.
        async with stream:
            async for chunk in stream:
                if chunk.choices:  # the chunk with the usage is the last one and has none
                    print(chunk.choices[0].delta.content or "", end="", flush=True)
                usage = chunk.usage or usage
    if usage:
        print(f"\n{usage.prompt_tokens} + {usage.completion_tokens} tokens")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "Tell me about proxies"))
    except APIError as error:
        # Refusals and streams that break off half-way both end here; `code` is what a program can rely on.
        sys.exit(f"\n{error.code}: {error.message}")
