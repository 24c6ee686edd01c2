# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from weather import ASKED, get_weather

model, way = sys.argv[1:]
# settings
place = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
llm = OpenAILike(model=model, is_chat_model=True, is_function_calling_model=True, **place)
# end
if way == "tool":
    print(llm.predict_and_call([FunctionTool.from_defaults(get_weather)], user_msg=ASKED))
elif way == "stream":
    print("".join(piece.delta or "" for piece in llm.stream_complete("Hello")))
else:
    print(llm.complete("Hello").text)
