# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

import instructor
from openai import OpenAI
from pydantic import BaseModel


class City(BaseModel):
    city: str


model, way = sys.argv[1:]
# settings
client = instructor.from_openai(OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"]))
# end
asked = {"model": model, "messages": [{"role": "user", "content": "Where?"}]}
if way == "stream":
    print(f"Rain in {list(client.create_partial(response_model=City, **asked))[-1].city}")
else:  # what it is for: each answer is the arguments of a tool
    print(f"Rain in {client.create(response_model=City, **asked).city}")
