# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

from openai import OpenAI

# settings
client = OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
# end
model, streams = sys.argv[1], sys.argv[2] == "stream"
said = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}], stream=streams)
if streams:
    print("".join(chunk.choices[0].delta.content or "" for chunk in said if chunk.choices))
else:
    print(said.choices[0].message.content)
