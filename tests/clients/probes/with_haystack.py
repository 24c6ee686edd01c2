# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from weather import ASKED, get_weather

model, way = sys.argv[1:]
# settings
chat = OpenAIChatGenerator(model=model, api_base_url=os.environ["OPENAI_BASE_URL"])  # the key is OPENAI_API_KEY
# end
pieces = []
tool = create_tool_from_function(get_weather)
options = {"streaming_callback": lambda piece: pieces.append(piece.content)} if way == "stream" else {}
options = {"tools": [tool]} if way == "tool" else options
said = chat.run([ChatMessage.from_user(ASKED if way == "tool" else "Hello")], **options)["replies"][0]
if way == "tool":
    print(tool.invoke(**said.tool_calls[0].arguments))
else:
    print("".join(pieces) if way == "stream" else said.text)
