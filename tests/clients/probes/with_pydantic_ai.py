# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from weather import ASKED, get_weather

model, way = sys.argv[1:]
tools = [get_weather] if way == "tool" else []
# settings
provider = OpenAIProvider(base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
agent = Agent(OpenAIChatModel(model, provider=provider), tools=tools)
# end
if way == "stream":
    print("".join(agent.run_stream_sync("Hello").stream_text(delta=True)))
else:
    print(agent.run_sync(ASKED if way == "tool" else "Hello").output)
