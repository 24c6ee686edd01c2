# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import json
import os
import sys

import dspy
from weather import ASKED, TOOL, get_weather

model, way = sys.argv[1:]
# settings
place = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
lm = dspy.LM(f"openai/{model}", **place, cache=False)
# end
if way == "stream":
    sys.exit(3)  # it streams whole programs, no question
if way == "tool":
    print(get_weather(**json.loads(lm(ASKED, tools=[TOOL])[0]["tool_calls"][0].function.arguments)))
else:
    print(lm("Hello")[0])
