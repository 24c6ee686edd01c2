# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

import dspy

model, streams = sys.argv[1], sys.argv[2] == "stream"
# settings
lm = dspy.LM(
    f"openai/{model}", api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"], cache=False
)
# end
if streams:
    sys.exit("dspy streams whole programs, not a question")
print(lm("Hello")[0])
