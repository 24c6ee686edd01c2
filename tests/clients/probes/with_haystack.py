# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage

model, streams = sys.argv[1], sys.argv[2] == "stream"
# settings
chat = OpenAIChatGenerator(model=model, api_base_url=os.environ["OPENAI_BASE_URL"])  # the key is OPENAI_API_KEY
# end
pieces = []
options = {"streaming_callback": lambda piece: pieces.append(piece.content)} if streams else {}
said = chat.run([ChatMessage.from_user("Hello")], **options)["replies"][0].text
print("".join(pieces) if streams else said)
