# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import asyncio
import os
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI
from weather import ASKED, get_weather

model, way = sys.argv[1:]
tools = [function_tool(get_weather)] if way == "tool" else []
# settings
set_tracing_disabled(True)  # traces go to OpenAI itself, with the key
client = AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
agent = Agent(name="a", model=OpenAIChatCompletionsModel(model=model, openai_client=client), tools=tools)
# end


async def main() -> None:
    if way == "stream":
        run = Runner.run_streamed(agent, "Hello")
        async for _ in run.stream_events():
            pass
        print(run.final_output)
    else:
        print((await Runner.run(agent, ASKED if way == "tool" else "Hello")).final_output)


asyncio.run(main())
