# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import json
import os
import sys

from openai import OpenAI
from weather import ASKED, TOOL, get_weather

# settings
client = OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
# end
model, way = sys.argv[1:]
messages = [{"role": "user", "content": ASKED if way == "tool" else "Hello"}]
options = {"tools": [TOOL]} if way == "tool" else {"stream": way == "stream"}
said = client.chat.completions.create(model=model, messages=messages, **options)
if way == "stream":
    print("".join(chunk.choices[0].delta.content or "" for chunk in said if chunk.choices))
elif way == "tool":
    print(get_weather(**json.loads(said.choices[0].message.tool_calls[0].function.arguments)))
else:
    print(said.choices[0].message.content)
