# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

model, streams = sys.argv[1], sys.argv[2] == "stream"
# settings
provider = OpenAIProvider(base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
agent = Agent(OpenAIChatModel(model, provider=provider))
# end
print("".join(agent.run_stream_sync("Hello").stream_text(delta=True)) if streams else agent.run_sync("Hello").output)
