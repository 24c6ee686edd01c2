# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

import litellm

model, streams = sys.argv[1], sys.argv[2] == "stream"
# settings
place = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
said = litellm.completion(
    model=f"openai/{model}", messages=[{"role": "user", "content": "Hello"}], stream=streams, **place
)
# end
print("".join(each.choices[0].delta.content or "" for each in said) if streams else said.choices[0].message.content)
