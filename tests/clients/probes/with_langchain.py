# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

from langchain_openai import ChatOpenAI

model, streams = sys.argv[1], sys.argv[2] == "stream"
# settings
chat = ChatOpenAI(model=model, base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
# end
print("".join(chunk.text for chunk in chat.stream("Hello")) if streams else chat.invoke("Hello").text)
