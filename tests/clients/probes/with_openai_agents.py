# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import asyncio
import os
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

model, streams = sys.argv[1], sys.argv[2] == "stream"
set_tracing_disabled(True)
# settings
client = AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
agent = Agent(name="a", model=OpenAIChatCompletionsModel(model=model, openai_client=client))
# end


async def main() -> None:
    if streams:
        run = Runner.run_streamed(agent, "Hello")
        async for _ in run.stream_events():
            pass
        print(run.final_output)
    else:
        print((await Runner.run(agent, "Hello")).final_output)


asyncio.run(main())
