# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from weather import ASKED, get_weather

model, way = sys.argv[1:]
# settings
chat = ChatOpenAI(model=model, base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
# end
if way == "tool":
    offered = tool(get_weather)
    print(offered.invoke(chat.bind_tools([offered]).invoke(ASKED).tool_calls[0]["args"]))
else:
    print("".join(chunk.text for chunk in chat.stream("Hello")) if way == "stream" else chat.invoke("Hello").text)
