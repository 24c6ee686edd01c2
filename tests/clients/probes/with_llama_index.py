# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

from llama_index.llms.openai_like import OpenAILike

model, streams = sys.argv[1], sys.argv[2] == "stream"
# settings
llm = OpenAILike(
    model=model, api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"], is_chat_model=True
)
# end
print("".join(piece.delta or "" for piece in llm.stream_complete("Hello")) if streams else llm.complete("Hello").text)
