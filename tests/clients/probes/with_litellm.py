# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import json
import os
import sys

import litellm
from weather import ASKED, TOOL, get_weather

model, way = sys.argv[1:]
messages = [{"role": "user", "content": ASKED if way == "tool" else "Hello"}]
options = {"tools": [TOOL]} if way == "tool" else {"stream": way == "stream"}
# settings
place = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
said = litellm.completion(model=f"openai/{model}", messages=messages, **place, **options)
# end
if way == "stream":
    print("".join(each.choices[0].delta.content or "" for each in said))
elif way == "tool":
    print(get_weather(**json.loads(said.choices[0].message.tool_calls[0].function.arguments)))
else:
    print(said.choices[0].message.content)
